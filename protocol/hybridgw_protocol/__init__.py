"""What both ends of a wire know: ids, codec, batches, vectors, frames, links, membership. Pure: no clock, no I/O."""
