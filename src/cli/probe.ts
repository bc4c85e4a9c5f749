/** `holdfast probe`: what a link and its peer are like, measured. */
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Console from "effect/Console"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import type * as Socket from "effect/socket/Socket"
import * as Connection from "../Connection.ts"
import * as ConnectionError from "../ConnectionError.ts"
import { AnswersPings } from "../internal/connection/webSocket.ts"
import { oneLine, plainJson } from "../internal/reasons/text.ts"
import { redactUrl } from "../node/internal/addresses/address.ts"
import * as Policy from "../Policy.ts"
import { CommandFailed } from "./CommandFailed.ts"
import { because, dialer, duration, peerFlags, peerOf, sayWaiting, url, whole } from "./peer.ts"
import { dialOf, micros, type Report, rttOf, seconds, table } from "./probeReport.ts"
import { frames, lines, native, type Speech } from "./probeSpeech.ts"
import { progress, span } from "./progress.ts"

const flags = {
  url,
  ...peerFlags,
  dials: whole("dials", 5, 1, "How many connections to open for the dial time, one after the other"),
  count: whole("count", 10, 1, "How many pings to send"),
  interval: duration(
    "interval",
    "5s",
    "From one ping to the next: many servers end what pings more often, as serve does by default; more where the native protocol asks for more"
  ),
  timeout: duration("timeout", "5s", "How long a dial or a pong may take", 1),
  silenceLimit: duration(
    "silence-limit",
    "90s",
    "How long to say nothing at all, on a connection of its own, and see when the peer closes it; 0 leaves that out"
  ),
  json: Flag.Boolean("json").pipe(
    Flag.withoutNegation,
    Flag.withDescription("One JSON object instead of the table, see above (default false)"),
    Flag.withDefault(false)
  )
}

/** No limit of ours ends a measurement. */
const policyFor = (timeout: number): Policy.Policy =>
  Policy.make({
    open: timeout,
    pingEvery: 0,
    silence: 0,
    frame: 0,
    writeStall: 0,
    // the peer's FIN is the end that is measured
    halfClose: 0,
    drain: Math.min(timeout, 1000)
  })

type Dial = Effect.Effect<Socket.Socket>

const dialOnce = (dial: Dial) =>
  Effect.suspend(() => {
    const since = performance.now()
    return Effect.scoped(Effect.flatMap(dial, (socket) => socket.reader)).pipe(
      Effect.mapError(ConnectionError.fromSocketError),
      // not the time that closing takes
      Effect.result,
      Effect.map((result) => ({ result, took: performance.now() - since }))
    )
  })

interface State {
  dials: number
  pings: number
  silentSince: number | undefined
}

const measure = <In, Out>(
  speech: Speech<In, Out>,
  dial: Dial,
  given: {
    readonly count: number
    readonly interval: number
    readonly timeout: number
    readonly silenceLimit: number
  },
  report: Report,
  state: State
) => {
  const open = Effect.flatMap(dial, Connection.make({ codec: speech.codec, policy: policyFor(given.timeout) }))

  const roundTrips = Effect.gen(function*() {
    const samples: Array<number> = []
    let sent = 0
    const tell = (problem: string | null) =>
      Effect.sync(() => {
        report.rtt = rttOf(samples, sent, problem)
      })
    yield* Effect.gen(function*() {
      const connection = yield* open
      const welcome = Deferred.makeUnsafe<void>()
      let goodbye: string | undefined
      let current:
        | { readonly token: number; readonly at: number; readonly answered: Deferred.Deferred<void> }
        | undefined
      const listen = Effect.gen(function*() {
        while (true) {
          const messages = yield* connection.receiveAll
          const at = performance.now()
          for (const message of messages) {
            const heard = speech.hear(message)
            if (heard._tag === "Ping") yield* connection.send(heard.answer)
            else if (heard._tag === "Close") goodbye = oneLine(heard.text)
            else if (heard._tag === "Welcome") {
              report.advertised = heard.advertised
              Deferred.doneUnsafe(welcome, Exit.void)
            } else if (
              heard._tag === "Pong" && current !== undefined && (heard.token ?? current.token) === current.token
            ) {
              const { answered, at: sentAt } = current
              current = undefined
              // an absorbed one is late
              if (at - sentAt <= given.timeout) samples.push(at - sentAt)
              Deferred.doneUnsafe(answered, Exit.void)
            }
          }
        }
      })
      const ping = Effect.gen(function*() {
        let every = given.interval
        if (speech.hello !== undefined) {
          yield* connection.send(speech.hello)
          if (Option.isNone(yield* Effect.timeoutOption(Deferred.await(welcome), given.timeout))) {
            return `no WELCOME came within ${seconds(given.timeout)}`
          }
          // two pings may draw closer to each other on their way
          every = Math.max(every, report.advertised!.minPingEvery * 1.1)
        }
        for (let token = 1; token <= given.count; token++) {
          const answered = Deferred.makeUnsafe<void>()
          const at = performance.now()
          current = { token, at, answered }
          yield* connection.send(speech.ping(token))
          sent++
          state.pings = sent
          const pong = Effect.timeoutOption(Deferred.await(answered), given.timeout)
          // where pongs have no number a late one would pass for the next one's: it gets as long again to be absorbed
          if (Option.isNone(yield* pong) && !speech.numbered) yield* pong
          yield* tell(null)
          if (samples.length === 0 && (sent === 3 || sent === given.count)) return speech.unanswered
          const rest = at + every - performance.now()
          if (token < given.count && rest > 0) yield* Effect.sleep(rest)
        }
        if (speech.bye !== undefined) yield* connection.send(speech.bye)
        return null
      })
      const problem = yield* Effect.raceFirst(ping, listen).pipe(
        Effect.catch((error) => Effect.succeed(`the connection ended: ${goodbye ?? because(error)}`))
      )
      yield* tell(problem)
    }).pipe(
      Effect.scoped,
      Effect.catch((error) => tell(because(error)))
    )
  })

  const silence = given.silenceLimit === 0 ? Effect.void : Effect.gen(function*() {
    const patience = given.silenceLimit
    let since = performance.now()
    const tell = (end: { readonly reason?: string; readonly ended?: boolean; readonly said?: string | undefined }) => {
      const waited = micros(performance.now() - since)
      report.silence = {
        limit: end.ended === true ? waited : null,
        waited,
        patience,
        reason: end.reason ?? null,
        said: end.said ?? null
      }
    }
    yield* Effect.gen(function*() {
      const connection = yield* open
      if (speech.hello !== undefined) yield* connection.send(speech.hello)
      since = performance.now()
      state.silentSince = since
      let goodbye: string | undefined
      let last: { readonly text: string; readonly at: number } | undefined
      const listen = Effect.gen(function*() {
        while (true) {
          for (const message of yield* connection.receiveAll) {
            const heard = speech.hear(message)
            if (heard._tag === "Close") goodbye = oneLine(heard.text)
            else if (heard._tag === "Other" && heard.text.trim() !== "") {
              last = { text: heard.text, at: performance.now() }
            }
          }
        }
      })
      yield* Effect.catch(
        Effect.timeoutOption(listen, Math.min(patience, 2_000_000_000)),
        (error) =>
          Effect.sync(() => {
            const said = last !== undefined && performance.now() - last.at < 1000
              ? oneLine(last.text).slice(0, 200)
              : undefined
            const reason = because(error)
            tell({ ended: true, reason: goodbye === undefined ? reason : `by the peer (${goodbye})`, said })
          })
      )
      if (report.silence === null) tell({})
    }).pipe(
      Effect.scoped,
      Effect.provideService(AnswersPings, false),
      Effect.catch((error) => Effect.sync(() => tell({ reason: because(error) }))),
      Effect.onInterrupt(() => Effect.sync(() => tell({})))
    )
  })

  return { roundTrips, silence }
}

export const probe = Command.make(
  "probe",
  flags,
  Effect.fnUntraced(function*({ count, dials, interval, json, silenceLimit, timeout, url: address, ...flags }) {
    const peer = yield* peerOf(address, flags)
    const dial = yield* dialer(peer, policyFor(timeout))
    const name = redactUrl(peer.url)
    const report: Report = {
      url: name,
      protocol: peer.protocol,
      dial: dialOf([], 0),
      rtt: rttOf([], 0, null),
      silence: null,
      advertised: null
    }
    const began = performance.now()
    const state: State = { dials: 0, pings: 0, silentSince: undefined }
    const given = { count, interval, timeout, silenceLimit }
    const { roundTrips, silence } = peer.protocol === "lines"
      ? measure(lines, dial, given, report, state)
      : peer.protocol === "native"
      ? measure(native, dial, given, report, state)
      : measure(frames(), dial, given, report, state)

    const samples: Array<number> = []
    let failed = 0
    const dialling = Effect.gen(function*() {
      for (let i = samples.length + failed; i < dials; i++) {
        // told once: each dial waits for the same
        const { result, took } = yield* i === 0 ? sayWaiting(dialOnce(dial)) : dialOnce(dial)
        if (result._tag === "Success") samples.push(took)
        else {
          if (i === 0) {
            return yield* new CommandFailed({ message: `cannot reach ${name}: ${because(result.failure)}` })
          }
          failed++
        }
        state.dials = i + 1
        report.dial = dialOf(samples, failed)
      }
    })

    const text = () =>
      [
        `probing for ${span(performance.now() - began)}`,
        `dial ${state.dials} of ${dials}`,
        `ping ${state.pings} of ${count}`,
        state.silentSince === undefined
          ? ""
          : `silent for ${span(performance.now() - state.silentSince)} of ${span(silenceLimit)}`
      ].filter((part) => part !== "").join(", ")
    const print = Effect.suspend(() => Console.log(json ? plainJson(report) : table(report)))
    let reached = false
    const work = Effect.gen(function*() {
      yield* dialling
      reached = true
      yield* Effect.all([roundTrips, silence], { concurrency: "unbounded" })
    })
    yield* Effect.acquireUseRelease(
      Effect.sync(() => progress.follow(text)),
      () => work,
      (end) => Effect.sync(end)
    ).pipe(
      // interrupted, it prints what it has measured
      Effect.onInterrupt(() => reached ? print : Effect.void)
    )
    yield* print
  })
).pipe(
  Command.withDescription(
    "Measures the link to a peer: how long dialling takes (with TLS and the WebSocket upgrade), how long a ping takes to " +
      "be answered, and after how much silence the peer closes a connection. For lines a ping is the line ping, answered " +
      "by pong; for native its PING; for frames a frame that the peer has to echo. Percentiles are exact, by nearest rank; " +
      "jitter is the mean difference from one round trip to the next. SIGINT ends it early, with what there is.\n\n" +
      "  Silence is measured meanwhile, on a connection that sends nothing at all (native: nothing after its HELLO; " +
      "WebSocket: nothing but the pongs of the transport).\n\n" +
      "  JSON, in milliseconds, null where not known: url; protocol; dial: count, failed, min, median, max; rtt: sent, " +
      "received, lost, min, p50, p90, p99, max, jitter, problem (why there are fewer pings than asked for); silence: limit " +
      "(null: none in the time waited), waited, patience, reason, said (the peer's last words); advertised (native): " +
      "pingEvery, minPingEvery, after, spread.\n\n" +
      "  Exit code: 0 when the peer could be reached, even if it answered no pings; 1 when it could not, or for a mistake " +
      "in a flag."
  ),
  Command.withShortDescription("Measure a link: dial time, round trips, the peer's silence limit"),
  Command.withExamples([
    { command: "holdfast probe tcp://127.0.0.1:7000", description: "All of it; at most 90 seconds" },
    {
      command: "holdfast probe wss://chat.example.com/live --silence-limit 0 --json",
      description: "Only dial time and round trips, for a program to read"
    }
  ])
)
