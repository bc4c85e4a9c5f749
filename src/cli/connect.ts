/** `holdfast connect`: a client that comes back. Lines typed are sent, messages are printed. */
import * as CliError from "effect/cli/CliError"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Console from "effect/Console"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Result from "effect/Result"
import * as Stdio from "effect/Stdio"
import * as Stream from "effect/Stream"
import * as Client from "../Client.ts"
import * as Codec from "../Codec.ts"
import * as Connection from "../Connection.ts"
import type * as ConnectionError from "../ConnectionError.ts"
import * as Heartbeat from "../Heartbeat.ts"
import { oneLine, visible } from "../internal/reasons/text.ts"
import { joined } from "../internal/scheduling/supervised.ts"
import { redactUrl } from "../node/internal/addresses/address.ts"
import * as Policy from "../Policy.ts"
import * as NativeProtocol from "../Protocol.ts"
import { CommandFailed } from "./CommandFailed.ts"
import { because, dialer, duration, peerFlags, peerOf, sayWaiting, url } from "./peer.ts"
import { policyFlags, policyOf } from "./policyFlags.ts"
import type * as Speech from "./speech.ts"

type Failure = ConnectionError.ConnectionError

const flags = {
  url,
  peer: peerFlags,
  wait: duration(
    "wait",
    "1s",
    "After the end of the input, leave once nothing came for this long; 0 leaves at once, Infinity never"
  ),
  retry: Flag.String("retry").pipe(
    Flag.withMetavar("N"),
    Flag.withDescription(
      "How many tries in a row may fail after the first; forever; or never, which ends at the first loss " +
        "(default forever)"
    ),
    Flag.mapEffect((text) =>
      text === "forever" || text === "never" || (/^\d{1,9}$/.test(text) && Number(text) > 0)
        ? Effect.succeed(text)
        : Effect.fail(
          new CliError.InvalidValue({
            option: "retry",
            value: text,
            expected: "a number of tries such as 5, forever or never",
            kind: "flag"
          })
        )
    ),
    Flag.optional
  ),
  ...policyFlags("connect")
}

const lossy = new TextDecoder("utf-8", { ignoreBOM: true })
const utf8 = new TextEncoder()

/** All three speak text here: what is no UTF-8 in a frame is printed as well as it can be. */
const opener = (protocol: Speech.Name, policy: Policy.Policy) => {
  switch (protocol) {
    case "lines":
      return Connection.make({ codec: Codec.lines(), heartbeat: Heartbeat.text("ping", "pong"), policy })
    case "frames":
      return Connection.make({
        codec: Codec.lengthPrefix().pipe(
          Codec.map({ decode: (frame) => lossy.decode(frame), encode: (text: string) => utf8.encode(text) })
        ),
        policy
      })
    case "native":
      return NativeProtocol.client({ codec: Codec.lengthPrefix().pipe(Codec.text), policy })
  }
}

const seconds = (delay: Duration.Duration): string => `${(Duration.toMillis(delay) / 1000).toFixed(1)} s`

const isLocal = ({ reason }: Failure): boolean => reason._tag === "Closed" && reason.by === "local"

const lines = (count: number): string => `${count} sent ${count === 1 ? "line" : "lines"}`

/** What became of lines that a connection had taken: left behind, or gone to a peer that never said anything. */
const unsent = ({ lost, unknown }: { readonly lost: number; readonly unknown: number }): string =>
  (lost === 0 ? "" : `; ${lines(lost)} did not leave`) +
  (unknown === 0 ? "" : `; ${lines(unknown)} may not have arrived`)

/** Lines of the input that no connection took, or that died with one. */
class Unsent {
  /** Refused, too long, or lost with a connection that had accepted them. */
  lost = 0
  /** Accepted by the connection that there is. */
  accepted = 0
  /** Read from the input, and not accepted by a connection yet. */
  waiting = 0

  /** A connection ended that had not written this many. A server that refused our certificate took none of the others. */
  lose(lost: number, { reason }: Failure): void {
    this.lost += reason._tag === "CertificateRefused" ? Math.max(lost, this.accepted) : lost
    this.accepted = 0
  }

  /** How many, as the end of a sentence; empty where there are none. */
  toString(count = this.lost + this.waiting): string {
    return count === 0 ? "" : `${count} ${count === 1 ? "line of the input was" : "lines of the input were"} not sent`
  }
}

/** Bytes of the input as lines; an over-long one is passed over. The last one needs no end. */
const inputLines = (maxFrame: number) => {
  const codec = Codec.delimiter("\n", { tooLong: "skip", report: "body" })
  // room for the carriage return of a line that just fits
  const decoder = Codec.decoder(codec, { maxFrame: maxFrame + 1 })
  return (chunk: Uint8Array | undefined) => {
    const { messages, skipped } = decoder.write(chunk ?? (decoder.pending > 0 ? utf8.encode("\n") : new Uint8Array(0)))
    return {
      lines: messages.map((line) => lossy.decode(line.at(-1) === 13 ? line.subarray(0, -1) : line)),
      tooLong: skipped
    }
  }
}

/** Writes to the standard output and waits until it is taken; false when it cannot be, because its reader has gone or the disk is full. */
const write = (text: string): Effect.Effect<boolean> =>
  Effect.callback((resume) => {
    process.stdout.write(text, (error) => resume(Effect.succeed(error === undefined || error === null)))
  })

/** An end that was meant as one, as opposed to a failure. */
const isGoodbye = (error: Failure, retry: string): boolean =>
  error.reason._tag === "Closed" && (!error.isRetryable || retry === "never") &&
  // 0 and 1: the native protocol's; the others: WebSocket's
  [undefined, 0, 1, 1000, 1001, 1005].includes(error.reason.code)

export const connect = Command.make(
  "connect",
  flags,
  Effect.fnUntraced(function*({ peer: flags, retry, url: address, wait, ...limits }) {
    const peer = yield* peerOf(address, flags)
    const given = yield* policyOf(limits)
    const tries = retry._tag === "Some" ? retry.value : given.retryAttempts === 0 ? "forever" : `${given.retryAttempts}`
    const policy = Policy.make({ retryAttempts: Number.isNaN(Number(tries)) ? 0 : Number(tries) }, given)
    const dial = yield* dialer(peer, policy)
    const stdio = yield* Stdio.Stdio
    const onTerminal = yield* stdio.stdoutIsTerminal
    const name = redactUrl(peer.url)

    const client = yield* Client.make(sayWaiting(Effect.flatMap(dial, opener(peer.protocol, policy))), {
      policy,
      ...(tries === "never" ? { isRetryable: () => false } : {})
    })

    const unsentLines = new Unsent()
    let everConnected = false
    let connected = false
    const report = Effect.fnUntraced(function*(state: Client.State<string>) {
      if ("lost" in state) unsentLines.lose(state.lost, state.error)
      switch (state._tag) {
        case "Connected": {
          everConnected = connected = true
          const { local, remote } = yield* state.connection.snapshot
          return yield* Console.error(
            `connected ${name} (${oneLine(local ?? "unknown")} → ${oneLine(remote ?? "unknown")})`
          )
        }
        case "Waiting": {
          const what = connected ? "lost" : "no connection"
          connected = false
          return yield* Console.error(
            `${what}: ${because(state.error)}${unsent(state)}; ` +
              `next try in ${seconds(state.delay)} (attempt ${state.attempt})`
          )
        }
        case "Closed":
          // a failure is told as the command's own
          if (!isGoodbye(state.error, tries) || !everConnected) return undefined
          // what was flushed before a close of our own is with the peer's side, whether it ever speaks or not
          return yield* Console.error(
            `closed: ${because(state.error)}${unsent(isLocal(state.error) ? { ...state, unknown: 0 } : state)}`
          )
      }
    })
    const reporter = yield* joined("reporter", Stream.runForEach(client.changes, report))

    // ---- messages come ------------------------------------------------------------------------------------------------

    let heardAt = 0
    let printing = false
    /** Ends when the reader of our output has gone, and fails with the end of the client, once all that came is printed. */
    const print = Effect.gen(function*() {
      while (true) {
        const messages = yield* client.receiveAll
        printing = true
        // a peer must not command the terminal, nor make one message look like two
        const shown = onTerminal ? messages.map(visible) : messages
        const taken = yield* write(`${shown.join("\n")}\n`)
        printing = false
        heardAt = performance.now()
        if (!taken) return "read no more" as const
      }
    })

    // ---- lines go -----------------------------------------------------------------------------------------------------

    const refused = (error: Failure): Effect.Effect<void> => {
      unsentLines.lost++
      return Console.error(`not sent: ${error.message}`)
    }

    /** Sends a line, when and as the policy says; never fails while the client lives. */
    const send = (line: string): Effect.Effect<void, Failure> =>
      Effect.catch(
        Effect.andThen(client.send(line), Effect.sync(() => unsentLines.accepted++)),
        (error) =>
          Effect.flatMap(client.state, (state) =>
            state._tag === "Closed"
              ? Effect.fail(error)
              // nothing was read ahead, so there is nothing that its bounds could be meant for
              : error.reason._tag === "Offline" && policy.whenOffline === "wait"
              ? Effect.andThen(client.connection, send(line))
              : refused(error))
      )

    const read = inputLines(policy.maxFrame)
    const sendInput = Effect.fnUntraced(function*(chunk: Uint8Array | undefined) {
      const { lines, tooLong } = read(chunk)
      unsentLines.lost += tooLong.length
      unsentLines.waiting += lines.length
      for (const { size } of tooLong) {
        yield* Console.error(
          `not sent: a line of ${size} bytes is over the limit of ${policy.maxFrame} bytes (--max-frame)`
        )
      }
      // in turn: each waits for room, and the input is not read on meanwhile
      for (const line of lines) {
        yield* send(line)
        unsentLines.waiting--
      }
    })

    /** All of it is with the transport of a connection; what died with an earlier one was told as lost. */
    const flushed: Effect.Effect<void, Failure> = Effect.andThen(
      client.connection,
      Effect.catch(client.flush, () => Effect.suspend(() => flushed))
    )

    const quiet = Effect.gen(function*() {
      heardAt = performance.now()
      while (true) {
        const left = (printing ? performance.now() : heardAt) + wait - performance.now()
        if (left <= 0) return
        yield* Effect.sleep(Math.min(left, 2_000_000_000))
      }
    })

    const input = stdio.stdin.pipe(
      // what was typed at a terminal that is gone has ended as well
      Stream.catch(() => Stream.empty),
      Stream.runForEach(sendInput),
      Effect.andThen(sendInput(undefined)),
      Effect.andThen(flushed),
      Effect.andThen(quiet)
    )

    // ---- until one of them ends ---------------------------------------------------------------------------------------

    // a pipe that stays open would keep the process alive
    yield* Effect.addFinalizer(() => Effect.sync(() => process.stdin.destroy()))
    const ended = yield* Effect.raceFirst(print, Effect.catch(input, () => Effect.never)).pipe(
      Effect.result,
      // also when we are interrupted: in an orderly way, and told
      Effect.ensuring(Effect.andThen(client.close, Fiber.await(reporter))),
      Effect.onInterrupt(() => {
        const text = String(unsentLines)
        if (text === "") return Effect.void
        process.exitCode = 1
        return Console.error(`holdfast: ${text}`)
      })
    )
    // what the reader of the output leaves behind is not waited for
    const left = ended._tag === "Success" && ended.success === "read no more"
      ? unsentLines.toString(unsentLines.lost)
      : String(unsentLines)
    if (Result.isSuccess(ended) || (everConnected && isGoodbye(ended.failure, tries))) {
      return left === "" ? undefined : yield* new CommandFailed({ message: left })
    }
    const why = everConnected ? `${name} is lost` : `cannot connect to ${name}`
    return yield* new CommandFailed({
      message: `${why}: ${because(ended.failure)}${left === "" ? "" : `; ${left}`}`
    })
  }, Effect.scoped)
).pipe(
  Command.withDescription(
    "Connects, sends each line of the input as a message, and prints each message that comes on a line of its own. A " +
      "lost connection is dialled again. What happens to the connection is told on the error stream; the standard " +
      "output has messages and nothing else. Pings are answered, and not printed.\n\n" +
      "  In a pipe or a file messages are the bytes that came. On a terminal, which would obey them, control and invisible " +
      "characters are shown as \\x1b or \\u202e; so is a line break inside a message.\n\n" +
      "  At the end of the input (Ctrl-D) everything is sent and answers are waited for, see --wait; SIGINT closes in " +
      "order, a second one exits at once.\n\n" +
      "  Exit code: 0 when the input ended, the reader of the output has gone, SIGINT came, or the peer said good-bye for " +
      "good after we were connected (with --retry never: closed in order); 1 when there was no connection to be had, we " +
      "gave up, or the reason of the end allows no other try, when a line of the input was not sent (the last line says how " +
      "many) or the output cannot be written, or for a mistake in a flag.\n\n" +
      "  To talk to a peer that knows no pings: --ping-every 0 --silence 0."
  ),
  Command.withShortDescription("Send lines and print messages, over a connection that comes back"),
  Command.withExamples([
    { command: "holdfast connect tcp://127.0.0.1:7000", description: "Talk to holdfast serve" },
    {
      command: "echo hello | holdfast connect tcp://127.0.0.1:7000 --retry never",
      description: "One message, and what is answered within a second after the last answer"
    },
    {
      command: "holdfast connect wss://chat.example.com/live --wait Infinity < /dev/null >> chat.log",
      description: "Record a stream for as long as it takes"
    }
  ])
)
