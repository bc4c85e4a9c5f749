/** Frames behind a 4-byte big-endian length, as somebody would write them by hand for one server. */

// from here on copying costs more than a second chunk in one writev
const copyLimit = 64 * 1024

/** Cuts one connection's bytes into payloads. What is incomplete is kept in pieces and joined once. */
export class Splitter {
  private held: Array<Buffer> = []
  private heldBytes = 0
  private needed = 0

  push(chunk: Buffer, payloads: Array<Buffer>): void {
    let data = chunk
    if (this.heldBytes > 0) {
      this.held.push(chunk)
      this.heldBytes += chunk.length
      if (this.heldBytes < this.needed) return
      data = Buffer.concat(this.held, this.heldBytes)
      this.held = []
      this.heldBytes = 0
    }
    let at = 0
    this.needed = 4
    while (data.length - at >= 4) {
      const end = at + 4 + data.readUInt32BE(at)
      if (end > data.length) {
        this.needed = end - at
        break
      }
      payloads.push(data.subarray(at + 4, end))
      at = end
    }
    if (at === data.length) return
    this.held.push(at === 0 ? data : data.subarray(at))
    this.heldBytes = data.length - at
  }
}

/** The frames of these payloads, in as few chunks as make sense for one write. */
export const join = (payloads: ReadonlyArray<Uint8Array>): [Buffer, ...Array<Uint8Array>] => {
  let size = 0
  for (const payload of payloads) size += 4 + payload.length
  if (payloads.length === 1 && size > copyLimit) {
    const header = Buffer.allocUnsafe(4)
    header.writeUInt32BE(size - 4, 0)
    return [header, payloads[0]!]
  }
  const out = Buffer.allocUnsafe(size)
  let at = 0
  for (const payload of payloads) {
    at = out.writeUInt32BE(payload.length, at)
    out.set(payload, at)
    at += payload.length
  }
  return [out]
}

/** A broadcast message of so many bytes, framed. */
export const broadcastFrame = (bytes: number): Buffer => join([Buffer.alloc(bytes, "b")])[0]
