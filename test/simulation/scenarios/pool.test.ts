/** A pool lends what works, and does not wait for ever for what does not: F10, F14. */
import { Effect, Fiber } from "effect"
import type { Connection } from "../../../src/Connection.ts"
import { TestNetwork } from "../../../src/testing/index.ts"
import { expect, now, outcome, type Peer, port, scenario, serveRaw } from "./kit.ts"

/** A server that tells each of its connections which one it is, in answer to every line, and then does something. */
const answering = (host: TestNetwork.Host, afterwards: (peer: Peer, number: number) => Effect.Effect<unknown>) => {
  let count = 0
  return serveRaw(host, (peer) =>
    Effect.suspend(() => {
      const number = ++count
      const answer = Effect.andThen(peer.pull, peer.write(`${number}\n`))
      return Effect.andThen(Effect.andThen(answer, afterwards(peer, number)), Effect.forever(answer))
    }))
}

scenario("F10 a pool does not lend a connection whose end has come", {
  run: ({ Codec, Connection, ConnectionPool }) =>
    Effect.gen(function*() {
      const network = yield* TestNetwork.make({ seed: 10, latency: "20 millis", slicing: false })
      yield* answering(network.host("server"), (peer, number) =>
        number === 1
          // tired of waiting for the next question, it ends its side
          ? Effect.andThen(Effect.sleep("30 seconds"), peer.finish)
          : number === 2
          // says why it is about to
          ? Effect.andThen(Effect.sleep("10 seconds"), Effect.ignore(peer.write("408 too slow\n")))
          : Effect.void)
      const lines = Connection.make({ codec: Codec.lines() })
      const dial = Effect.suspend(() => lines(network.host("client").dial(`server:${port}`)))
      const pool = yield* ConnectionPool.make(dial, { max: 1 })
      const ask = outcome(
        "1 minute",
        pool.use((connection) => Effect.andThen(connection.send("which one are you?"), connection.receive))
      )
      const answers = [yield* ask]
      // 30,080 is when the end has come: it was asked at 60 ms, and its end took 20 ms
      yield* Effect.sleep(30_081 - (yield* now))
      answers.push(yield* ask)
      yield* Effect.sleep("15 seconds")
      answers.push(yield* ask)
      yield* expect("the answers", answers, [
        { at: 80, result: "1" },
        // a new connection, from dialling to the answer
        { at: 30_161, result: "2" },
        { at: 45_241, result: "3" }
      ])
    }),
  broken: {
    "nobody looks at an idle connection": {
      file: "src/ConnectionPool.ts",
      find: "Effect.flip(connection.ending),",
      replace: "Effect.never, ...{ isUsable: () => true },",
      caughtBy: "the answers"
    },
    "what was not asked for is taken for the next answer": {
      file: "src/ConnectionPool.ts",
      find: "isUsable: (connection) => connection[TypeId].isResting",
      replace: "isUsable: () => true",
      caughtBy: "the answers"
    }
  }
})

scenario("F14 acquiring ends when the pool is exhausted, and when a check never returns", {
  run: ({ Codec, Connection, ConnectionPool }) =>
    Effect.gen(function*() {
      const network = yield* TestNetwork.make({ seed: 14, latency: "20 millis", slicing: false })
      yield* answering(network.host("server"), () => Effect.void)
      const lines = Connection.make({ codec: Codec.lines(), policy: { silence: 0 } })
      const dial = Effect.suspend(() => lines(network.host("client").dial(`server:${port}`)))
      const ask = ({ receive, send }: Connection<string>) => Effect.andThen(send("which one are you?"), receive)
      const pool = yield* ConnectionPool.make(dial, {
        max: 1,
        acquire: "3 seconds",
        check: ask,
        checkAfter: "10 seconds",
        checkTimeout: "1 second"
      })
      const holder = yield* Effect.forkScoped(pool.use((connection) => Effect.andThen(ask(connection), Effect.never)))
      yield* Effect.sleep("10 seconds")
      yield* expect("a borrower of an exhausted pool", yield* outcome("1 hour", pool.use(ask)), {
        at: 13_000,
        result: "AcquireTimeout"
      })
      yield* Fiber.interrupt(holder)
      const before = yield* outcome("1 hour", pool.use(ask))
      yield* expect("the next one", before?.result, "2")
      // the connection is dead, and nothing has told us so
      yield* network.host("client").vanish
      yield* Effect.sleep("20 seconds")
      const since = yield* now
      yield* expect("a borrower of a dead connection", yield* outcome("1 hour", pool.use(ask)), {
        at: since + 1000 + 80,
        result: "3"
      })
    }),
  broken: {
    "a borrower waits for ever": {
      file: "src/ConnectionPool.ts",
      find: "= numbersOf(Limits.fields)",
      replace: "= (limits) => ({ ...numbersOf(Limits.fields)(limits), acquire: Infinity })",
      caughtBy: "a borrower of an exhausted pool"
    },
    "a check waits for ever": {
      file: "src/ConnectionPool.ts",
      find: "= numbersOf(Limits.fields)",
      replace: "= (limits) => ({ ...numbersOf(Limits.fields)(limits), checkTimeout: Infinity })",
      caughtBy: "a borrower of a dead connection"
    }
  }
})
