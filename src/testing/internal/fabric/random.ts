/** Small seeded generators, one for each purpose, so that traffic on one link does not change what another one draws. */

/** Draws from [0, 1). */
export type Draw = () => number

/** A generator (sfc32) whose sequence depends on the texts alone. */
export const drawFrom = (...names: ReadonlyArray<string>): Draw => {
  // FNV-1a, started four times differently
  let [a, b, c, d] = [0x811c9dc5, 0x9e3779b9, 0x243f6a88, 0xb7e15162]
  const text = names.join("\n")
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i)
    a = Math.imul(a ^ code, 0x01000193)
    b = Math.imul(b ^ code, 0x85ebca6b)
    c = Math.imul(c ^ code, 0xc2b2ae35)
    d = Math.imul(d ^ code, 0x27d4eb2f)
  }
  const draw = (): number => {
    const t = (a + b + d) | 0
    d = (d + 1) | 0
    a = b ^ (b >>> 9)
    b = (c + (c << 3)) | 0
    c = (c << 21) | (c >>> 11)
    c = (c + t) | 0
    return (t >>> 0) / 0x1_0000_0000
  }
  // the first values still look like the seed
  for (let i = 0; i < 12; i++) draw()
  return draw
}
