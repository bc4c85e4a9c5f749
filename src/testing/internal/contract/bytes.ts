/** Bytes whose position can be told from their value. */

const encoder = new TextEncoder()

export const toBytes = (data: Uint8Array | string): Uint8Array => typeof data === "string" ? encoder.encode(data) : data

export const concat = (parts: ReadonlyArray<Uint8Array>): Uint8Array => {
  const out = new Uint8Array(parts.reduce((size, part) => size + part.byteLength, 0))
  let at = 0
  for (const part of parts) {
    out.set(part, at)
    at += part.byteLength
  }
  return out
}

// Knuth's multiplicative hash: neighbours differ, and nothing repeats within a block
const byteAt = (seed: number, position: number): number => Math.imul(position + seed * 7919, 2_654_435_761) >>> 24

/** Bytes `from` to `from + size` of the endless sequence that belongs to a seed. */
export const pattern = (seed: number, size: number, from: number = 0): Uint8Array => {
  const out = new Uint8Array(size)
  for (let i = 0; i < size; i++) out[i] = byteAt(seed, from + i)
  return out
}

/** How bytes differ from what they should be, or undefined. */
export const difference = (seen: Uint8Array, wanted: Uint8Array): string | undefined => {
  const size = Math.min(seen.byteLength, wanted.byteLength)
  for (let i = 0; i < size; i++) {
    if (seen[i] !== wanted[i]) return `byte ${i} of ${wanted.byteLength} to be ${seen[i]} instead of ${wanted[i]}`
  }
  return seen.byteLength === wanted.byteLength ? undefined : `${seen.byteLength} bytes instead of ${wanted.byteLength}`
}
