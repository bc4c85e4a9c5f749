/**
 * Many clients of the public API in one process. Says `all connected` once, then what happens to each, in lines:
 * `connected N`, `lost N REASON`, `closed N REASON`; of those that ask: `answered N MICROSECONDS`, `failed N REASON`.
 * At `stop` on its input, the clients ask no more; it says `stopped` when the last answer has come.
 *
 * usage: fleet.ts {"url", "protocol", "count", "does", "pause", "policy"}
 */
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import { Client, Codec, Connection, Heartbeat, Policy, Protocol, Request } from "../../../src/index.ts"
import { Dialer } from "../../../src/node/index.ts"

interface Arguments {
  readonly url: string
  readonly protocol: "lines" | "native"
  readonly count: number
  readonly does: "wait" | "ask" | "send and never read"
  readonly pause: number
  readonly policy: unknown
}

const { count, does, pause, policy: given, protocol, url } = JSON.parse(process.argv[2]!) as Arguments

// begun in a millisecond
const perMilli = 0.4

const state = { isStopping: false }
process.stdin.on("data", (text) => {
  if (String(text).includes("stop")) state.isStopping = true
})

let said: Array<string> = []
/** The lines of a turn are one write. */
const say = (line: string): void => {
  if (said.length === 0) {
    setImmediate(() => {
      process.stdout.write(`${said.join("\n")}\n`)
      said = []
    })
  }
  said.push(line)
}

const reasonOf = (error: { readonly reason: { readonly _tag: string } }): string => error.reason._tag

/** Asks again and again, and waits for each answer. */
const asking = (client: Client.Client<string>, n: number) =>
  Effect.gen(function*() {
    // requests that the peer may have seen are not sent again
    const requests = yield* Request.make(client.connection)
    let i = 0
    while (!state.isStopping) {
      const question = `question ${n}.${++i}`
      const since = performance.now()
      const answer = yield* Effect.result(requests.request(question, { deadline: "20 seconds" }))
      say(
        answer._tag === "Failure"
          ? `failed ${n} ${reasonOf(answer.failure)}`
          : answer.success === question
          ? `answered ${n} ${Math.round((performance.now() - since) * 1000)}`
          : `failed ${n} WrongAnswer`
      )
      yield* Effect.sleep(pause)
    }
  })

/** As much as goes, and never reads: only the pings of the connection show that it lives. */
const greedy = (client: Client.Client<string>) => {
  const line = "x".repeat(10_000)
  return Effect.forever(client.send(line))
}

const main = Effect.gen(function*() {
  const policy = yield* Policy.decode(given)
  const dial = Effect.orDie(Dialer.make(url, { policy }))
  const open = protocol === "native"
    ? Protocol.client({ codec: Codec.lengthPrefix().pipe(Codec.text), policy })
    : Connection.make({ codec: Codec.lines(), heartbeat: Heartbeat.text("ping", "pong"), policy })
  let connected = 0
  const one = Effect.fnUntraced(function*(n: number) {
    yield* Effect.sleep(n / perMilli)
    const client = yield* Client.make(Effect.flatMap(dial, open), { policy })
    const work = does === "ask" ? asking(client, n) : does === "wait" ? Effect.never : greedy(client)
    const working = Effect.catch(work, () => Effect.void)
    const watching = Stream.runForEach(client.changes, (now) =>
      Effect.sync(() => {
        if (now._tag === "Connected") {
          say(`connected ${n}`)
          if (++connected === count) say("all connected")
        } else if (now._tag === "Waiting") say(`lost ${n} ${reasonOf(now.error)}`)
        else if (now._tag === "Closed") say(`closed ${n} ${reasonOf(now.error)}`)
      }))
    yield* does === "ask"
      ? Effect.raceFirst(working, Effect.andThen(watching, Effect.never))
      : Effect.andThen(Effect.forkScoped(working), watching)
  })
  yield* Effect.forEach(Array.from({ length: count }, (_, n) => n), (n) => Effect.scoped(one(n)), {
    concurrency: "unbounded",
    discard: true
  })
  say("stopped")
})

Effect.runPromise(main).catch((error: unknown) => {
  console.error(error)
  process.exitCode = 1
})
