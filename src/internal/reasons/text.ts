/** Text for a log or a terminal: one line that commands nothing, whatever a peer or a cause wrote into it. */

// white space and controls (C0, C1, escape), and format characters, which are not seen: zero widths, byte order marks, and those
// that turn the writing direction; half a pair of UTF-16 is none of them and prints as anything
const unprintable = /[\s\p{Cc}\p{Cf}\p{Cs}]+/gu

/** A peer chooses the reason text of a close frame, a key, and bytes that are quoted. */
export const oneLine = (text: string): string => text.replace(unprintable, " ").trim()

const command = /[\p{Cc}\p{Cf}\p{Cs}\u2028\u2029]/u

/** Whether a text has nothing but what is printed. */
export const isPlain = (text: string): boolean => !command.test(text)

// \s and \p{Cf} without the spaces that a text may have
const commanding = /[\p{Cc}\p{Cf}\p{Cs}\u2028\u2029]/gu

const hex = (char: string, digits: number): string => char.codePointAt(0)!.toString(16).padStart(digits, "0")

/** The same text for a terminal: what is not printed is seen as `\x1b` or `\u202e`. Tabs stay. */
export const visible = (text: string): string =>
  text.replace(
    commanding,
    (char) =>
      char === "\t"
        ? char
        : char <= "\xff"
        ? `\\x${hex(char, 2)}`
        : `\\u${char > "\uffff" ? `{${hex(char, 5)}}` : hex(char, 4)}`
  )

/** JSON that commands nothing where it is read by a person: the same value, with escapes in its strings. */
export const plainJson = (value: unknown): string =>
  JSON.stringify(value).replace(commanding, (char) => char.split("").map((unit) => `\\u${hex(unit, 4)}`).join(""))

/** What a cause says, in brackets behind a message; nothing where it has no words. */
export const inBrackets = (cause: unknown): string => {
  const text = cause instanceof Error ? cause.message : typeof cause === "string" ? cause : ""
  return text === "" ? "" : ` (${text})`
}

/** A time for a person: microseconds are as fine as it gets. */
export const seconds = (millis: number): string =>
  millis % 1000 === 0 ? `${millis / 1000} s` : `${Math.round(millis * 1000) / 1000} ms`

/** The first few, so that a message stays one line that can be read. */
export const list = <A>(all: ReadonlyArray<A>, show: (a: A) => string): string =>
  all.slice(0, 3).map(show).join(", ") + (all.length > 3 ? `, and ${all.length - 3} more` : "")

/** The text of what caused a failure, with the operating system's code when there is one. */
export const causeText = (cause: unknown): string => {
  if (typeof cause !== "object" || cause === null) return oneLine(String(cause)) || "no detail given"
  // OpenSSL's has it in a field of its own: its message is a line of its source
  if ("library" in cause && "reason" in cause && typeof cause.reason === "string") return oneLine(cause.reason)
  if ("message" in cause && typeof cause.message === "string" && oneLine(cause.message) !== "") {
    return oneLine(cause.message)
  }
  // Node wraps the errors of several addresses (Happy Eyeballs) in an AggregateError without a message
  if ("errors" in cause && Array.isArray(cause.errors) && cause.errors.length > 0) return causeText(cause.errors[0])
  if ("code" in cause && typeof cause.code === "string") return oneLine(cause.code)
  // a WebSocket `ErrorEvent` keeps the error inside
  if ("error" in cause && cause.error !== undefined) return causeText(cause.error)
  // a tagged error says what it is by its name
  if ("_tag" in cause && typeof cause._tag === "string") return oneLine(cause._tag)
  return "no detail given"
}

/** The operating system's code of a failure (`"ECONNRESET"`). */
export const causeCode = (cause: unknown): string | undefined => {
  if (typeof cause !== "object" || cause === null) return undefined
  if ("code" in cause && typeof cause.code === "string") return cause.code
  return "error" in cause ? causeCode(cause.error) : undefined
}

const resetCodes = new Set(["ECONNRESET", "EPIPE", "ECONNABORTED"])

/** Whether the kernel says that the peer is gone. */
export const isReset = (cause: unknown): boolean => resetCodes.has(causeCode(cause) ?? "")
