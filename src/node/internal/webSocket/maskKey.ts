/** Masks for the frames of clients: each of 32 bits that no peer can foretell (RFC 6455, 5.3 and 10.3). */
import * as Crypto from "node:crypto"

// drawn many at a time: a draw costs more than a frame
const drawn = new Int32Array(1024)
let next = drawn.length

export const maskKey = (): number => {
  if (next === drawn.length) {
    Crypto.randomFillSync(drawn)
    next = 0
  }
  return drawn[next++]!
}
