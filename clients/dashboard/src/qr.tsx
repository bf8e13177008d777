/** A QR code as one path of an SVG: drawn by elements, never by markup. */

import { encode } from 'uqr'

const BORDER = 4 // squares; what the standard asks for

/** Dark on light in both themes, as cameras want it. */
export function Qr({ text, label = 'QR code with the same link' }: { text: string; label?: string }) {
  const { data, size } = encode(text, { ecc: 'L', border: 0 })
  const side = size + 2 * BORDER
  const path = data.flatMap((row, y) => row.map((isDark, x) => (isDark ? `M${x + BORDER} ${y + BORDER}h1v1h-1z` : ''))).join('')
  return (
    <svg class="qr" viewBox={`0 0 ${side} ${side}`} role="img" aria-label={label} shape-rendering="crispEdges">
      <rect width={side} height={side} fill="#fff" />
      <path d={path} fill="#000" />
    </svg>
  )
}
