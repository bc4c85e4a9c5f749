/** The front of MQTT packets: a byte of type and flags, and the length of the rest as a varint of up to 4 bytes. */
import type { Header } from "../../internal/codec/framings/sized.ts"

/** Makes the header of one connection's packets. */
export const header = (): Header => {
  const self: Header = {
    most: 5,
    size: 0,
    body: 0,
    strip: 0,
    invalid: undefined,
    read(bytes, pos, end) {
      self.invalid = undefined
      let length = 0
      for (let i = pos + 1; i < end; i++) {
        const byte = bytes[i]!
        if (i - pos === 4 && byte > 127) {
          self.invalid = "a length of more than 4 bytes"
          return true
        }
        length += (byte & 127) * 128 ** (i - pos - 1)
        if (byte < 128) {
          self.size = i - pos + 1
          self.body = length
          return true
        }
      }
      return false
    }
  }
  return self
}

const whole = header()

/** Where the fields of a packet begin. A transport that keeps messages apart has not looked at its length. */
export const fieldsAt = (bytes: Uint8Array): number => {
  if (!whole.read(bytes, 0, bytes.length) || whole.invalid !== undefined || whole.size + whole.body !== bytes.length) {
    throw new Error("its length is another")
  }
  return whole.size
}
