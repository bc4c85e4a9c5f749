/** Text for a log or a terminal: one line that commands nothing, whatever a peer or a cause wrote into it. */

// white space and controls, with line and paragraph separators and the overrides of the writing direction
const unprintable = /[\s\p{Cc}\u2028-\u202e\u2066-\u2069]+/gu

/** A peer chooses the reason text of a close frame, a key, and bytes that are quoted. */
export const oneLine = (text: string): string => text.replace(unprintable, " ").trim()

export const seconds = (millis: number): string => millis % 1000 === 0 ? `${millis / 1000} s` : `${millis} ms`

/** The first few, so that a message stays one line that can be read. */
export const list = <A>(all: ReadonlyArray<A>, show: (a: A) => string): string =>
  all.slice(0, 3).map(show).join(", ") + (all.length > 3 ? `, and ${all.length - 3} more` : "")

/** The text of what caused a failure, with the operating system's code when there is one. */
export const causeText = (cause: unknown): string => {
  if (typeof cause !== "object" || cause === null) return oneLine(String(cause)) || "no detail given"
  // Node wraps the errors of several addresses (Happy Eyeballs) in an AggregateError without a message
  if ("errors" in cause && Array.isArray(cause.errors) && cause.errors.length > 0) return causeText(cause.errors[0])
  if ("message" in cause && typeof cause.message === "string" && oneLine(cause.message) !== "") {
    return oneLine(cause.message)
  }
  if ("code" in cause && typeof cause.code === "string") return cause.code
  // a WebSocket `ErrorEvent` keeps the error inside
  if ("error" in cause && cause.error !== undefined) return causeText(cause.error)
  // a tagged error says what it is by its name
  if ("_tag" in cause && typeof cause._tag === "string") return cause._tag
  return "no detail given"
}

/** The operating system's code of a failure (`"ECONNRESET"`). */
const causeCode = (cause: unknown): string | undefined => {
  if (typeof cause !== "object" || cause === null) return undefined
  if ("code" in cause && typeof cause.code === "string") return cause.code
  return "error" in cause ? causeCode(cause.error) : undefined
}

const resetCodes = new Set(["ECONNRESET", "EPIPE", "ECONNABORTED"])

/** Whether the kernel says that the peer is gone. */
export const isReset = (cause: unknown): boolean => resetCodes.has(causeCode(cause) ?? "")
