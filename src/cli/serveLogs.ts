/** What `serve` says of its connections and of its stop. */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import { causeCode } from "../internal/reasons/text.ts"
import type * as Server from "../Server.ts"
import { progress, span } from "./progress.ts"

/** What happened, as a sentence for people and as fields for machines. */
const describeEvent = (event: Server.Event): { readonly text: string; readonly fields: Record<string, unknown> } => {
  switch (event._tag) {
    case "Opened": {
      const { id, local: listener = "unknown", remote: address = "unknown" } = event.snapshot
      return { text: `open #${id} ${address} on ${listener}`, fields: { event: "open", id, address, listener } }
    }
    case "Closed": {
      const { age, bytesIn, bytesOut, id, local: listener = "unknown", reason, remote: address = "unknown" } =
        event.snapshot
      const { _tag, message: detail } = reason ?? { _tag: "Closed", message: "closed" }
      const durationMs = Math.round(age)
      return {
        text: `close #${id} ${address} after ${durationMs} ms, ${bytesIn} bytes in, ${bytesOut} bytes out: ${detail} ` +
          `(${_tag})`,
        fields: { event: "close", id, address, listener, reason: _tag, detail, durationMs, bytesIn, bytesOut }
      }
    }
    case "Refused": {
      const { reason: { _tag: reason, message: detail }, remote: address = "unknown" } = event
      const text = `refused ${address}: ${detail} (${reason})`
      return { text, fields: { event: "refused", address, reason, detail } }
    }
    case "AcceptFailed": {
      const detail = String(event.cause.cause)
      const text = `accepting failed, next try in ${event.retryAfter} ms: ${detail}`
      return { text, fields: { event: "accept-failed", detail, retryAfterMs: event.retryAfter } }
    }
    case "MemoryTight":
    case "MemoryFreed": {
      const { _tag, held, limit } = event
      const [name, now] = _tag === "MemoryTight"
        ? ["memory-tight", "some are not read, and new ones wait"]
        : ["memory-freed", "all are read again"]
      return { text: `the connections hold ${held} of ${limit} bytes: ${now}`, fields: { event: name, held, limit } }
    }
  }
}

const warnings: ReadonlyArray<string> = ["Refused", "AcceptFailed", "MemoryTight"] satisfies Array<Server.Event["_tag"]>

/** What to do about an answer to what is no request for a WebSocket of ours. */
const answers: Readonly<Record<string, string>> = {
  "403": "; --origin says whose pages may open a WebSocket",
  "404": "; the path is that of --listen",
  "426": "; ws:// is for WebSockets: a browser's address line and curl open none"
}

// what OpenSSL says of bytes that are no TLS, and that it may know
const plaintext =
  /^ERR_SSL_(HTTP_REQUEST|HTTPS_PROXY_REQUEST|WRONG_VERSION_NUMBER|PACKET_LENGTH_TOO_LONG|BAD_RECORD_TYPE)$/

/** What a person with `nc`, `curl` or a wrong client wonders about: what to do. */
const hintOf = (event: Server.Event, isLines: (local?: string) => boolean): string => {
  if (event._tag === "Refused" && "cause" in event.reason && plaintext.test(causeCode(event.reason.cause) ?? "")) {
    return "; the client does not speak TLS: tcp:// and ws:// are for such"
  }
  if (event._tag === "Refused") return answers[/answered with (\d{3})$/.exec(event.reason.message)?.[1] ?? ""] ?? ""
  if (event._tag !== "Closed") return ""
  const { local, reason } = event.snapshot
  switch (reason?._tag) {
    case "SilenceTimeout":
      return isLines(local) ? "; nc answers no ping: type pong, or serve with --silence 0" : ""
    case "InvalidMessage":
      return isLines(local)
        ? "; lines are UTF-8 text: bytes want --protocol frames, and a client of TLS --listen tls://"
        : ""
    case "FrameTooLong":
      return "; --max-frame sets the limit"
    default:
      return ""
  }
}

export const logEvent =
  (format: "pretty" | "json", isLines: (local?: string) => boolean) => (event: Server.Event): Effect.Effect<void> => {
    const { fields, text: what } = describeEvent(event)
    const text = what + hintOf(event, isLines)
    const level = warnings.includes(event._tag) ? "Warn" : "Info"
    // a defect is logged already
    const line = event._tag === "Closed" && event.failure !== undefined && !Cause.hasDies(event.failure)
      ? Effect.logError(text, event.failure)
      : Effect.logWithLevel(level)(text)
    return format === "json" ? Effect.annotateLogs(line, fields) : line
  }

const statesOf = ({ states }: Server.Draining): string =>
  Object.entries(states).filter(([, count]) => count > 0).map(([state, count]) => `${count} ${state}`).join(", ")

/** How far a stop is: a log line a second, and on a terminal for people one line that is erased at the end. */
export const logDraining = (format: "pretty" | "json") => {
  let most = 0
  return (draining: Server.Draining): Effect.Effect<void> => {
    const { after, left, limit, states } = draining
    const toGo = `${Math.ceil((limit - after) / 1000)} s to go`
    if (format === "pretty" && progress.isOn) {
      most = Math.max(most, left)
      return Effect.sync(() =>
        progress.show(`stopping for ${span(after)}: ${left} of ${most} left (${statesOf(draining)}), ${toGo}`)
      )
    }
    const line = Effect.logInfo(`stopping: ${left} left (${statesOf(draining)}), ${toGo}`)
    const fields = { event: "draining", left, ...states, durationMs: after }
    return format === "json" ? Effect.annotateLogs(line, fields) : line
  }
}

// of more refusals in a second only their number is logged
const mostRefusals = 20

/** How many refusals before this one were not logged by themselves; undefined: this one is not either. */
export const refusalBound = () => {
  let since = -Infinity
  let count = 0
  return (): number | undefined => {
    const now = performance.now()
    if (now - since < 1000) return ++count <= mostRefusals ? 0 : undefined
    const untold = Math.max(0, count - mostRefusals)
    since = now
    count = 1
    return untold
  }
}

/** A message that came over one transport may be none on another: two lines are one message of a WebSocket. */
export const notHeard = (count: number): string =>
  `holdfast: ${count} ${
    count === 1 ? "member" : "members"
  } did not get your last message: on their transport it is not one ` +
  "message (a line break in lines)"
