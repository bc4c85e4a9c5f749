/** What the kernel says of our sockets, and what it does to them. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as ChildProcess from "node:child_process"
import { Codec, Connection } from "../../src/index.ts"
import { Dialer, Listener } from "../../src/node/index.ts"
import { arrival, certificate, descriptors, ending, has, portOf, serve, takeRest, until } from "./support/kit.ts"
import { rawClient } from "./support/ways.ts"

const host = "127.0.0.1"

const ss = (...args: ReadonlyArray<string>): string => ChildProcess.spawnSync("ss", args, { encoding: "utf8" }).stdout

/** What `ss` says of our end of a connection. */
const accepted = (local: number, remote: number): string =>
  ss("-Htnoei", "state", "established", `sport = :${local}`, "and", `dport = :${remote}`)

/** Whether the kernel kills a socket when it is asked to: it takes a privilege and CONFIG_INET_DIAG_DESTROY. */
const canKill: Effect.Effect<boolean> = Effect.scoped(Effect.gen(function*() {
  const listener = yield* Listener.make(`tcp://${host}:0`)
  const raw = yield* rawClient({ host, port: portOf(listener) })
  ss("-K", "-tn", `sport = :${raw.wire.localPort}`, "and", `dport = :${portOf(listener)}`)
  return yield* until("it is killed", () => raw.closed, 500).pipe(
    Effect.as(true),
    Effect.catchCause(() => Effect.succeed(false))
  )
})).pipe(Effect.orDie)

describe.skipIf(!has("ss", "-V"))("accepted sockets (needs ss of iproute2)", () => {
  for (const scheme of ["tcp", "tls", "ws", "wss"]) {
    it.live(`${scheme}: have the keep-alive timer and no Nagle delay that was asked for`, () =>
      Effect.gen(function*() {
        for (const keepAlive of ["20 seconds", "0 seconds"] as const) {
          const listener = yield* Listener.make(`${scheme}://${host}:0`, { ...certificate(), policy: { keepAlive } })
          yield* serve(listener, { codec: Codec.lines() })
          const client = yield* Effect.flatMap(
            Dialer.make(listener.url, { ca: certificate().cert, policy: { keepAlive: "40 seconds" } }),
            Connection.make({ codec: Codec.lines() })
          )
          yield* client.send("hello")
          assert.strictEqual(yield* client.receive, "hello")
          const remote = Number((yield* client.snapshot).local!.split(":").at(-1))
          // a delayed acknowledgement has the timer first
          let server = ""
          let ours = ""
          yield* until("the timers are those of an idle connection", () => {
            server = accepted(portOf(listener), remote)
            ours = accepted(remote, portOf(listener))
            return /timer:\(keepalive,(39|40)/.test(ours) && !/timer:\((on|persist)/.test(server) &&
              (keepAlive === "0 seconds" || server.includes("timer:(keepalive"))
          })
          if (keepAlive === "0 seconds") assert.notInclude(server, "timer:(keepalive")
          else assert.match(server, /timer:\(keepalive,(19|20)(\.\d+)?sec,0\)/)
        }
      }))
  }
})

describe.skipIf(!has("ss", "-V"))("a connection that the kernel kills (ss -K)", () => {
  for (const end of ["server", "client"] as const) {
    it.live(`has a typed reason at both ends, and leaves nothing: the ${end}'s socket`, (context) =>
      Effect.gen(function*() {
        if (!(yield* canKill)) return context.skip("the kernel does not let us kill sockets (ss -K)")
        const listener = yield* Listener.make(`tcp://${host}:0`)
        const served = yield* serve(listener, { codec: Codec.lines() })
        let last = -1
        yield* until("it is quiet", () => last === (last = descriptors()))
        const before = last
        for (let round = 0; round < 5; round++) {
          const client = yield* Effect.flatMap(Dialer.make(listener.url), Connection.make({ codec: Codec.lines() }))
          yield* client.send("hello")
          assert.strictEqual(yield* client.receive, "hello")
          const server = yield* arrival(served, round)
          const remote = Number((yield* client.snapshot).local!.split(":").at(-1))
          const [from, to] = end === "server" ? [portOf(listener), remote] : [remote, portOf(listener)]
          ss("-K", "-tn", `sport = :${from}`, "and", `dport = :${to}`)
          const reasons = [yield* ending(server), (yield* takeRest(client)).reason]
          // ECONNABORTED here, ECONNRESET at the other end
          assert.deepStrictEqual(reasons.map(({ _tag }) => _tag), ["Reset", "Reset"])
        }
        yield* until("all are told", () => served.events.filter(({ _tag }) => _tag === "Closed").length === 5)
        assert.strictEqual(yield* served.registry.size, 0)
        yield* until("every descriptor is back", () => descriptors() <= before)
      }))
  }
})
