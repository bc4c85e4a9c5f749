/** Text and its UTF-8 bytes. */

const encoder = new TextEncoder()
// a byte order mark is kept: it is part of the message
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true })

export const utf8 = (text: string): Uint8Array => encoder.encode(text)

// a call of the encoder costs more than so many characters
const few = 48

/** Writes a text as UTF-8 where there are three bytes for each of its characters, and returns how many bytes it came to. */
export const utf8Into = (text: string, target: Uint8Array): number => {
  const { length } = text
  if (length > few) return encoder.encodeInto(text, target).written
  for (let i = 0; i < length; i++) {
    const code = text.charCodeAt(i)
    if (code > 0x7f) return encoder.encodeInto(text, target).written
    target[i] = code
  }
  return length
}

/** A text as at most so many bytes of UTF-8, cut between two characters. */
export const utf8Within = (text: string, most: number): Uint8Array => {
  const bytes = new Uint8Array(most)
  return bytes.subarray(0, encoder.encodeInto(text, bytes).written)
}

/** The text of UTF-8 bytes, or undefined when they are none. */
export const textOf = (bytes: Uint8Array): string | undefined => {
  try {
    return decoder.decode(bytes)
  } catch {
    return undefined
  }
}

/** How many bytes a text has as UTF-8, without making them. */
export const utf8Size = (text: string): number => {
  let size = text.length
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i)
    if (code < 0x80) continue
    if (code < 0x800) size++
    else {
      size += 2
      // a pair is 4 bytes for 2 units
      if (code >= 0xd800 && code < 0xdc00 && (text.charCodeAt(i + 1) & 0xfc00) === 0xdc00) i++
    }
  }
  return size
}
