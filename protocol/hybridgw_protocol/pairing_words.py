"""The 256 words that both screens show while two devices are paired: one byte is one word.

Chosen for reading aloud: short, common, no two that sound alike or differ in a single letter, none that hurts.
The order is part of the protocol: a word never changes its place. Source: protocol/SPEC.md, "Pairing".
"""

from __future__ import annotations

from typing import Final

WORDS: Final[tuple[str, ...]] = tuple(  # a block of text, because 256 quoted words hide a double
    """
    acorn actor adult album alpha amber angle apple apron arena arrow atlas autumn award bacon badge
    bagel balcony bamboo banjo barrel basket beach beaver belt berry bicycle birch biscuit blanket blossom board
    bonus bottle branch breeze bridge bronze brush bubble bucket butter cabin cactus camel candle canoe canyon
    carbon carpet castle cedar cello chalk cherry chess chimney cider circle citrus cloud clover cobra coconut
    coffee comet copper coral cotton cousin coyote crayon cricket crown crystal curtain daisy dancer desert diamond
    dinner doctor dolphin dragon drum eagle early earth echo elbow elephant engine envoy epoch fabric falcon
    family farmer feather fence fiddle finger forest fossil fox frost galaxy garden garlic gecko giraffe glacier
    globe golden gospel grape gravel guitar hammer harbor hazel helmet hermit hippo honey horizon hotel hunter
    iceberg igloo indigo insect iron island ivory jacket jaguar jelly jigsaw journal jungle kayak kettle kitchen
    kiwi knight koala ladder lagoon lantern laptop lemon lentil leopard letter lilac lizard lobster lunar magnet
    mango maple marble meadow meteor mirror mitten monkey mosaic mountain museum mustard napkin needle nephew noodle
    nutmeg oasis object ocean octopus olive onion opera orange orchid otter oxygen oyster palace panda paper
    parrot pastel peanut pebble pelican pencil pepper pianist pigeon pillow pirate planet plaza poetry polar pony
    potato prairie prism pumpkin puzzle pyramid quartz quilt rabbit radio raven reef ribbon river robot rocket
    saddle salad satin school scooter shadow silver sketch spider sugar sunset tailor teapot temple thunder tiger
    tomato tulip tunnel turtle umbrella uncle velvet violin volcano waffle walnut whale window winter yellow zebra
    """.split()  # noqa: SIM905
)


def words_of(digest: bytes) -> tuple[str, ...]:
    """One word for each byte of *digest*."""
    return tuple(WORDS[byte] for byte in digest)
