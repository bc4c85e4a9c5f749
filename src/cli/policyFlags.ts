/** The limits of a policy as command-line flags, and the policy file they change. */
import * as CliError from "effect/cli/CliError"
import * as Flag from "effect/cli/Flag"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Option from "effect/Option"
import * as Policy from "../Policy.ts"
import { CommandFailed, fileProblem } from "./CommandFailed.ts"

type Name = keyof Policy.Patch
type Kind = "duration" | "bytes" | "count"

const metavars: Record<Kind, string> = { duration: "DURATION", bytes: "BYTES", count: "N" }

const limit = (flag: string, name: Name, kind: Kind, description: string) =>
  Flag.String(flag).pipe(
    Flag.withMetavar(metavars[kind]),
    Flag.withDescription(`${description} (default ${Policy.encode(Policy.defaults)[name]})`),
    // checked here, so that the error names the flag
    Flag.mapEffect((text) => {
      const field: Record<string, unknown> = { [name]: kind === "count" && text.trim() !== "" ? Number(text) : text }
      return Policy.decode(field).pipe(
        Effect.as(field),
        Effect.mapError(({ detail }) =>
          // the flag says which field
          new CliError.InvalidValue({
            option: flag,
            value: text,
            expected: detail.replace(/ at \["[^\]]*"\]$/, ""),
            kind: "flag"
          })
        )
      )
    }),
    Flag.optional
  )

const choice = (flag: string, name: Name, choices: ReadonlyArray<string>, description: string) =>
  Flag.Literals(flag, choices).pipe(
    Flag.withDescription(`${description} (default ${Policy.encode(Policy.defaults)[name]})`),
    Flag.map((value): Record<string, unknown> => ({ [name]: value })),
    Flag.optional
  )

const limits = {
  policy: Flag.String("policy").pipe(
    Flag.withMetavar("FILE.json"),
    Flag.withDescription("Limits as JSON: any field of a policy, and \"preset\": defaults, lan, mobile or realtime"),
    Flag.optional
  ),
  pingEvery: limit("ping-every", "pingEvery", "duration", "How often to ping a quiet peer"),
  pong: limit("pong", "pong", "duration", "How long a pong may take; 0 is off"),
  silence: limit("silence", "silence", "duration", "How long a peer may stay silent; 0 is off"),
  minPingEvery: limit("min-ping-every", "minPingEvery", "duration", "A peer that pings more often is closed; 0 is off"),
  writeStall: limit("write-stall", "writeStall", "duration", "How long a peer may take none of our bytes; 0 is off"),
  frame: limit("frame-deadline", "frame", "duration", "How long one message may take to arrive; 0 is off"),
  idle: limit("idle", "idle", "duration", "Close a connection without messages for this long; 0 is off"),
  maxAge: limit("max-age", "maxAge", "duration", "Ask a connection to leave at this age; 0 is off"),
  handshake: limit("handshake", "handshake", "duration", "How long a TLS handshake or WebSocket upgrade may take"),
  drain: limit("drain", "drain", "duration", "How long stopping waits for what was accepted"),
  halfClose: limit("half-close", "halfClose", "duration", "How long to answer a peer that has finished sending"),
  keepAlive: limit("keep-alive", "keepAlive", "duration", "TCP keep-alive after this much quiet; 0 is off"),
  maxFrame: limit("max-frame", "maxFrame", "bytes", "The longest message"),
  inboxBytes: limit("inbox-bytes", "inboxBytes", "bytes", "Unhandled bytes at which a connection is not read on"),
  outboxBytes: limit("outbox-bytes", "outboxBytes", "bytes", "Unsent bytes a connection may hold"),
  outboxMessages: limit("outbox-messages", "outboxMessages", "count", "Unsent messages a connection may hold"),
  overflow: choice(
    "overflow",
    "overflow",
    ["wait", "fail", "drop-newest", "drop-oldest", "close"],
    "What happens at that bound"
  ),
  maxConnections: limit("max-connections", "maxConnections", "count", "The most connections; 0 is no limit"),
  maxConnectionsPerAddress: limit(
    "max-connections-per-address",
    "maxConnectionsPerAddress",
    "count",
    "The most connections from one address; 0 is no limit"
  ),
  acceptRate: limit("accept-rate", "acceptRate", "count", "The most new connections in a second; 0 is no limit"),
  whenFull: choice("when-full", "whenFull", ["wait", "reject"], "What a connection over a limit does")
}

/** A flag for each limit of a server that people set by hand; the rest is for the policy file. */
export const policyFlags = limits

/** The same for a client: the limits of its connection, and when it comes back. */
export const clientPolicyFlags = {
  policy: limits.policy,
  open: limit("open", "open", "duration", "How long dialling may take"),
  handshake: limit("handshake", "handshake", "duration", "How long the greeting of the native protocol may take"),
  pingEvery: limits.pingEvery,
  pong: limits.pong,
  silence: limits.silence,
  writeStall: limits.writeStall,
  frame: limits.frame,
  idle: limits.idle,
  drain: limit("drain", "drain", "duration", "How long closing waits for what was accepted"),
  keepAlive: limits.keepAlive,
  maxFrame: limits.maxFrame,
  outboxBytes: limits.outboxBytes,
  outboxMessages: limits.outboxMessages,
  retryBase: limit("retry-base", "retryBase", "duration", "The first delay before the next try"),
  retryCap: limit("retry-cap", "retryCap", "duration", "The longest delay"),
  retryElapsed: limit("retry-elapsed", "retryElapsed", "duration", "Give up after this long; 0 is never"),
  retryResetAfter: limit(
    "retry-reset-after",
    "retryResetAfter",
    "duration",
    "A connection that lived this long starts the delays over"
  ),
  retryMaxAdvice: limit(
    "retry-max-advice",
    "retryMaxAdvice",
    "duration",
    "The most that a server's advice may make us wait; 0 ignores it"
  ),
  offline: choice("offline", "whenOffline", ["wait", "fail"], "What a line does while there is no connection")
}

type Given = {
  readonly policy: Option.Option<unknown>
  readonly [name: string]: Option.Option<unknown>
}

/** The policy file, if any, changed by the flags. */
export const policyOf = Effect.fnUntraced(function*(given: Given) {
  let fields: Record<string, unknown> = {}
  if (Option.isSome(given.policy)) {
    const path = String(given.policy.value)
    const files = yield* FileSystem.FileSystem
    const text = yield* Effect.mapError(files.readFileString(path), fileProblem("--policy", path))
    const json = yield* Effect.try({
      try: () => JSON.parse(text) as unknown,
      catch: (cause) => new CommandFailed({ message: `--policy ${path} is not JSON: ${(cause as Error).message}` })
    })
    // its own errors first, so that they are told as the file's
    yield* Effect.mapError(
      Policy.decode(json),
      (error) => new CommandFailed({ message: `--policy ${path}: ${error.detail}` })
    )
    fields = json as Record<string, unknown>
  }
  for (const [name, value] of Object.entries(given)) {
    if (name !== "policy" && Option.isSome(value)) fields = { ...fields, ...(value.value as Record<string, unknown>) }
  }
  return yield* Effect.mapError(Policy.decode(fields), (error) => new CommandFailed({ message: error.message }))
})
