/** Which address of a name is dialled, and when: the race as a timeline, and names, families and zones on real sockets. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as AddressResolver from "effect/net/AddressResolver"
import * as Dns from "effect/net/Dns"
import * as Result from "effect/Result"
import * as TestClock from "effect/testing/TestClock"
import * as Os from "node:os"
import { Codec, Connection } from "../../src/index.ts"
import { Dialer, Listener } from "../../src/node/index.ts"
import { attempts, interleaved, type Pace, type Target } from "../../src/node/internal/dialling/attempts.ts"
import { certificate, echo, known, portOf, serve } from "./fixtures/kit.ts"

const target = (host: string): Target => ({ family: host.includes(":") ? 6 : 4, host, port: 1 })

/** Attempts that answer or fail after some milliseconds, or never, and what happened to each when. */
const race = Effect.fnUntraced(
  function*(answers: Record<string, number | `fails ${number}` | "never">, pace: Partial<Pace> = {}) {
    const log: Array<string> = []
    const note = (text: string) =>
      Effect.flatMap(
        Effect.clockWith((clock) => clock.currentTimeMillis),
        (at) => Effect.sync(() => void log.push(`${at} ${text}`))
      )
    const connect = ({ host }: Target): Effect.Effect<string, string> => {
      const answer = answers[host]!
      const after = typeof answer === "number" ? answer : answer === "never" ? Infinity : Number(answer.slice(6))
      return Effect.andThen(
        note(`${host} begins`),
        after === Infinity ? Effect.never : Effect.andThen(
          Effect.sleep(after),
          typeof answer === "number" ? Effect.succeed(host) : Effect.fail(`${host} refuses`)
        )
      ).pipe(Effect.onInterrupt(() => note(`${host} is given up`)))
    }
    const fiber = yield* Effect.forkChild(
      attempts(
        Object.keys(answers).map(target),
        connect,
        { attemptDelay: 250, attemptTimeout: Infinity, ...pace },
        ({ host }) => `${host} takes too long`
      ).pipe(Effect.onExit((exit) =>
        Exit.isSuccess(exit)
          ? note(`${exit.value} is taken`)
          : Exit.hasInterrupts(exit)
          ? Effect.void
          : note("none is taken")
      ))
    )
    yield* Effect.yieldNow
    return { log, fiber }
  }
)

describe("several addresses (RFC 8305)", () => {
  it.effect("B141 a slow first address does not lose to a dead last one, and is not given up when the next one begins", () =>
    Effect.gen(function*() {
      const { fiber, log } = yield* race({ slow: 3000, dead: "never" })
      yield* TestClock.adjust(2999)
      assert.deepStrictEqual(log, ["0 slow begins", "250 dead begins"])
      yield* TestClock.adjust(1)
      assert.deepStrictEqual(log.slice(2), ["3000 dead is given up", "3000 slow is taken"])
      assert.strictEqual(yield* Fiber.join(fiber), "slow")
    }))

  it.effect("B141 an address begins a delay after the one before, to the millisecond, and the first answer is taken", () =>
    Effect.gen(function*() {
      const { fiber, log } = yield* race({ a: "never", b: 400, c: 1000 })
      yield* TestClock.adjust(249)
      assert.deepStrictEqual(log, ["0 a begins"])
      yield* TestClock.adjust(1)
      assert.deepStrictEqual(log, ["0 a begins", "250 b begins"])
      yield* TestClock.adjust(399)
      assert.deepStrictEqual(log.slice(2), ["500 c begins"])
      yield* TestClock.adjust(1)
      assert.strictEqual(yield* Fiber.join(fiber), "b")
      assert.sameMembers(log.slice(3, 5), ["650 a is given up", "650 c is given up"])
    }))

  it.effect("B141 an address that fails makes way at once, and all errors are told in order", () =>
    Effect.gen(function*() {
      const { fiber, log } = yield* race({ a: "fails 600", b: "fails 10", c: "fails 20" })
      yield* TestClock.adjust(260)
      assert.deepStrictEqual(log, ["0 a begins", "250 b begins", "260 c begins"])
      yield* TestClock.adjust(339)
      assert.lengthOf(log, 3)
      yield* TestClock.adjust(1)
      assert.deepStrictEqual(log.slice(3), ["600 none is taken"])
      assert.deepStrictEqual(yield* Effect.flip(Fiber.join(fiber)), ["a refuses", "b refuses", "c refuses"])
    }))

  it.effect("B141 one address may take attemptTimeout, and not a millisecond more", () =>
    Effect.gen(function*() {
      const { fiber, log } = yield* race({ a: "never", b: 99 }, { attemptTimeout: 100, attemptDelay: 5000 })
      yield* TestClock.adjust(99)
      assert.deepStrictEqual(log, ["0 a begins"])
      yield* TestClock.adjust(1)
      assert.deepStrictEqual(log, ["0 a begins", "100 a is given up", "100 b begins"])
      yield* TestClock.adjust(99)
      assert.strictEqual(yield* Fiber.join(fiber), "b")
    }))

  it.effect("B141 interrupted, it gives up every attempt", () =>
    Effect.gen(function*() {
      const { fiber, log } = yield* race({ a: "never", b: "never" }, { attemptDelay: 10 })
      yield* TestClock.adjust(10)
      yield* Fiber.interrupt(fiber)
      assert.sameMembers(log.slice(2), ["10 a is given up", "10 b is given up"])
    }))

  it("B141 the families take turns, and keep their order", () => {
    const order = (...hosts: ReadonlyArray<string>) => interleaved(hosts.map(target)).map(({ host }) => host)
    assert.deepStrictEqual(order("::1", "::2", "::3", "1", "2"), ["::1", "1", "::2", "2", "::3"])
    assert.deepStrictEqual(order("1", "2", "::1"), ["1", "::1", "2"])
    assert.deepStrictEqual(order("1"), ["1"])
  })
})

/** A resolver that knows these names. */
const resolver = (hosts: Record<string, ReadonlyArray<string>>): AddressResolver.AddressResolver["Service"] =>
  AddressResolver.make(Result.getOrThrow(Dns.makeStatic({ hosts })))

const word = (url: string, options: Dialer.DialOptions) =>
  Effect.gen(function*() {
    const socket = yield* Dialer.make(url, options)
    const connection = yield* Connection.make({ codec: Codec.lines() })(socket)
    yield* connection.send("hello")
    assert.strictEqual(yield* connection.receive, "hello")
    return { local: known(socket).local!, remote: known(socket).remote! }
  }).pipe(Effect.scoped)

/** Why a reader could not be acquired. */
const opening = (url: string, options: Dialer.DialOptions) =>
  Effect.gen(function*() {
    const { reason } = yield* Effect.flip(Effect.scoped((yield* Dialer.make(url, options)).reader))
    return `${"kind" in reason ? reason.kind : ""} ${(reason.cause as Error).message}`
  })

/** A link-local address of this machine, with its zone by name and by number. */
const linkLocal =
  Object.entries(Os.networkInterfaces()).flatMap(([name, addresses]) =>
    (addresses ?? []).flatMap((it) =>
      it.family === "IPv6" && it.address.startsWith("fe80:") ? [{ address: it.address, name, id: it.scopeid }] : []
    )
  )[0]

describe("dialling", () => {
  for (const scheme of ["tcp", "tls", "ws", "wss"]) {
    it.live(`B141 ${scheme}: a name with a dead address and a live one, from a local address`, () =>
      Effect.gen(function*() {
        const { cert, key } = certificate()
        const listener = yield* serve(`${scheme}://127.0.0.1:0`, echo, { cert, key })
        const lookup = resolver({ "two.test": ["::ffff:240.0.0.1", "127.0.0.1"] })
        const url = `${scheme}://two.test:${portOf(listener)}`
        const { local } = yield* word(url, {
          ca: cert,
          servername: "localhost",
          lookup,
          localAddress: "127.0.0.2",
          attemptDelay: "20 millis"
        })
        assert.match(local, /^127\.0\.0\.2:/)
      }))

    it.live(`B148 ${scheme}: a lookup that hangs is under Policy.open`, () =>
      Effect.gen(function*() {
        const lookup = { resolve: () => Effect.never } as AddressResolver.AddressResolver["Service"]
        assert.match(
          yield* opening(`${scheme}://somewhere.test:1`, { lookup, policy: { open: "50 millis" } }),
          /^Timeout /
        )
      }))
  }

  it.live("B141 a resolver that fails, dies or throws is an error of the connection", () =>
    Effect.gen(function*() {
      const dial = (resolve: () => Effect.Effect<never>) =>
        opening("tcp://somewhere.test:1", { lookup: { resolve } as AddressResolver.AddressResolver["Service"] })
      assert.strictEqual(yield* dial(() => Effect.die(new Error("dead"))), "Unknown dead")
      assert.strictEqual(
        yield* dial(() => {
          throw new Error("thrown")
        }),
        "Unknown thrown"
      )
      assert.match(yield* opening("tcp://somewhere.test:1", { lookup: resolver({}) }), /^Unknown NotFound/)
    }))

  it.live("B141 the reason names what became of each address, of many the first three", () =>
    Effect.gen(function*() {
      const refused = yield* Effect.scoped(Effect.map(Listener.make("tcp://127.0.0.1:0"), portOf))
      const said = (addresses: ReadonlyArray<string>) =>
        Dialer.make(`tcp://many.test:${refused}`, {
          lookup: resolver({ "many.test": addresses }),
          localAddress: "127.0.0.1"
        })
          .pipe(
            Effect.flatMap(Connection.make({ codec: Codec.lines() })),
            Effect.scoped,
            Effect.flip,
            Effect.map(String)
          )
      const one = `127.0.0.1:${refused}: connect ECONNREFUSED 127.0.0.1:${refused}`
      assert.include(
        yield* said(["127.0.0.1", "::1", "127.0.0.2"]),
        `: ${one}; ${one.replaceAll("127.0.0.1", "127.0.0.2")}`
      )
      assert.match(
        yield* said(["1", "2", "3", "4", "5"].map((last) => `127.0.0.${last}`)),
        /127\.0\.0\.3:\d+; and 2 more$/
      )
    }))

  it.live("B141 the family can be chosen", () =>
    Effect.gen(function*() {
      const lookup = resolver({ "both.test": ["127.0.0.1", "::1"] })
      for (const [family, host] of [[4, "127.0.0.1"], [6, "[::1]"]] as const) {
        const listener = yield* serve(`tcp://${host}:0`, echo)
        const url = `tcp://both.test:${portOf(listener)}`
        assert.include((yield* word(url, { lookup, family })).local, host)
        assert.match(yield* opening(url, { lookup, family: family === 4 ? 6 : 4 }), /ECONNREFUSED/)
      }
      assert.match(
        yield* opening("tcp://one.test:1", { lookup: resolver({ "one.test": ["127.0.0.1"] }), localAddress: "::1" }),
        /has no IPv6 address to connect to/
      )
    }))

  it.live("B142 a zone works in dialling and listening, by name and by number", (context) =>
    Effect.gen(function*() {
      if (linkLocal === undefined) return context.skip("no interface of this machine has a link-local address")
      const { address, id, name } = linkLocal
      const { cert, key } = certificate()
      for (const scheme of ["tcp", "ws", "tls", "wss"]) {
        for (const zone of [`%${name}`, `%25${name}`, `%${id}`]) {
          const listener = yield* serve(`${scheme}://[${address}${zone}]:0`, echo, { cert, key })
          assert.include(listener.url, `[${address}%`)
          yield* word(listener.url, { ca: cert, servername: "localhost" })
        }
      }
    }))

  it.live("B142 a zone that is no interface is told at both ends, and nothing is dialled", () =>
    Effect.gen(function*() {
      for (const zone of ["nosuch0", "99999"]) {
        const { message, reason } = yield* Effect.flip(Effect.scoped(Listener.make(`tcp://[fe80::1%${zone}]:0`)))
        assert.strictEqual(reason, "AddressNotAvailable")
        assert.match(message, new RegExp(`no network interface of this machine is called ${zone}$`))
        assert.match(yield* opening(`tcp://[fe80::1%${zone}]:1`, {}), new RegExp(`is called ${zone}$`))
      }
      const { message } = yield* Effect.flip(Effect.scoped(Listener.make("tcp://[fe80::1]:0")))
      assert.match(message, /a link-local address has to name its interface, as in \[fe80::1%eth0\]$/)
    }))

  it.live("B142 the loopback interface is a zone too", () =>
    Effect.gen(function*() {
      const name = Object.entries(Os.networkInterfaces()).find(([, all]) => all?.some((it) => it.address === "::1"))
        ?.[0]
      const listener = yield* serve(`tcp://[::1%${name}]:0`, echo)
      yield* word(listener.url, {})
    }))

  it.effect("B142 an address that cannot be is refused when it is given", () =>
    Effect.gen(function*() {
      const wrong = [
        "1.2.3.4.5",
        "256.1.1.1",
        "1.2.3",
        "1",
        "0x7f.0.0.1",
        "0x7f",
        "a b",
        " a",
        "a ",
        "a\tb",
        "a\nb",
        "-a",
        "a-",
        "a..b",
        ".a",
        "[::1",
        "[1:2:3]",
        "[::1]1",
        "[::g]",
        "[::1%]",
        "[::1%a b]",
        "[127.0.0.1]",
        "[]",
        "a%20b",
        "a\\b",
        "<a>",
        "x".repeat(64),
        "a.".repeat(130) + "b"
      ]
      for (const host of wrong) {
        for (const scheme of ["tcp", "wss"]) {
          const url = `${scheme}://${host}:7000`
          assert.strictEqual((yield* Effect.flip(Dialer.make(url))).reason, "BadUrl", url)
          assert.strictEqual((yield* Effect.flip(Effect.scoped(Listener.make(url)))).reason, "BadUrl", url)
        }
      }
      for (
        const host of [
          "a",
          "a.",
          "a-b.c",
          "my_service",
          "bücher.example",
          "1a",
          "1.2.3.4",
          "[::1]",
          "[fe80::1%eth0]",
          "[::ffff:1.2.3.4]"
        ]
      ) {
        yield* Dialer.make(`tcp://${host}:7000`)
      }
      const refused = (url: string, options: Dialer.DialOptions) =>
        Effect.map(Effect.flip(Dialer.make(url, options)), ({ message, reason }) => `${reason} ${message}`)
      assert.match(yield* refused("tcp://[::1]:1", { family: 4 }), /^BadOption .*not of one family/)
      assert.match(yield* refused("tcp://a:1", { family: 4, localAddress: "::1" }), /^BadOption .*not of one family/)
      assert.match(yield* refused("tcp://a:1", { localAddress: "a" }), /^BadOption .*no IP address/)
      assert.match(yield* refused("tcp://a:1", { family: 5 as 4 }), /^BadOption .*family is 4 or 6/)
      assert.match(yield* refused("tcp://a:1", { attemptDelay: -1 }), /^BadOption .*attemptDelay is negative/)
    }))
})
