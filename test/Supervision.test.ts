/** Four fibers under one: what kills one of them ends its connection with the reason, and nothing else. */
import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Logger from "effect/Logger"
import * as Scope from "effect/Scope"
import * as Socket from "effect/socket/Socket"
import { TestClock } from "effect/testing"
import { Codec, Connection, type ConnectionError, Heartbeat, type Policy, Registry } from "../src/index.ts"
import { ShortCuts } from "../src/internal/connection/fiberShortCuts.ts"
import { TestSocket } from "../src/testing/index.ts"
import { countingClock } from "./support/countingClock.ts"

type Chat = Connection.Connection<string, string>
type FiberName = "reader" | "writer" | "heartbeat" | "deadlines"

const names: ReadonlyArray<FiberName> = ["reader", "writer", "heartbeat", "deadlines"]

const settle = Effect.gen(function*() {
  for (let i = 0; i < 20; i++) yield* Effect.yieldNow
})

/** Everything that ends a connection is off, so that a test shows the one thing it does. */
const quiet: Policy.Patch = { pingJitter: 0, pingEvery: 0, silence: 0, writeStall: 0, frame: 0 }

/** Collects what is logged at level error or above, one line each, with its cause. */
const collecting = Effect.sync(() => {
  const lines: Array<string> = []
  const logger = Logger.make<unknown, void>(({ cause, logLevel, message }) => {
    if (logLevel === "Error" || logLevel === "Fatal" || logLevel === "Warn") {
      lines.push(`${String(message)} ${Cause.pretty(cause).split("\n")[0]}`)
    }
  })
  return { lines, layer: Logger.layer([logger]) }
})

/** A peer whose socket can be made to fail or die in the next read or write, and which is read paused when asked. */
const sabotaged = Effect.gen(function*() {
  const peer = yield* TestSocket.make()
  const reading = yield* Deferred.make<never, Socket.SocketError>()
  const writing = yield* Deferred.make<never, Socket.SocketError>()
  let unsent: () => number = () => 0
  const plain = Socket.make({
    reader: Effect.map(peer.socket.reader, (reader) => ({
      ...reader,
      pull: Effect.raceFirst(reader.pull, Deferred.await(reading))
    })),
    writer: Effect.map(peer.socket.writer, (writer) => ({
      ...writer,
      writeAll: (chunks) => Effect.raceFirst(Deferred.await(writing), writer.writeAll(chunks))
    }))
  })
  return {
    peer,
    reading,
    writing,
    socket: Connection.describe(plain, { messages: false, remote: "10.0.0.1:7", unsent: () => unsent() }),
    breakUnsent: (thrown: Error) => {
      unsent = () => {
        throw thrown
      }
    }
  }
})

const fiberOf = (c: Chat, name: FiberName | "connection") =>
  Effect.map(Connection.fibers(c), (fibers) => fibers.find((fiber) => fiber.name === name)!)

const open = (options?: {
  readonly policy?: Policy.Patch
  readonly heartbeat?: Heartbeat.Heartbeat<string, string>
}) =>
  Effect.gen(function*() {
    const host = yield* sabotaged
    const c = yield* Connection.make(host.socket, {
      codec: Codec.lines(),
      heartbeat: options?.heartbeat ?? Heartbeat.text("ping", "pong"),
      policy: { ...quiet, inboxMessages: 2, drain: "1 hour", halfClose: "1 hour", ...options?.policy }
    })
    return { ...host, c }
  })

/** The phases of a connection, and how to come there; the reason that is decided by then. */
const phases: Record<
  string,
  (host: Effect.Success<ReturnType<typeof open>>) => Effect.Effect<ConnectionError.Reason["_tag"] | undefined, unknown>
> = {
  opening: () => Effect.succeed(undefined),
  open: () => Effect.as(settle, undefined),
  paused: ({ peer }) =>
    Effect.gen(function*() {
      yield* peer.send("a\nb\nc\n")
      yield* settle
      yield* peer.send("d\n")
      yield* settle
      return undefined
    }),
  draining: ({ c }) =>
    Effect.gen(function*() {
      yield* c.drainWith(new (yield* reasons).GoingAway({}))
      yield* settle
      return "GoingAway" as const
    }),
  closing: ({ c, peer }) =>
    Effect.gen(function*() {
      yield* peer.window(0)
      yield* c.send("waits for the peer")
      yield* settle
      yield* Effect.forkChild(c.close, { startImmediately: true })
      yield* settle
      return "Closed" as const
    })
}
const reasons = Effect.promise(() => import("../src/ConnectionError.ts"))

const text = (chunk: Uint8Array | string) => typeof chunk === "string" ? chunk : new TextDecoder().decode(chunk)

const states = { opening: "open", open: "open", paused: "open", draining: "draining", closing: "closing" } as const

const socketError = new Socket.SocketError({ reason: new Socket.SocketReadError({ cause: new Error("cable") }) })

describe("a fiber of a connection that is killed", () => {
  const kills: Record<
    string,
    (host: Effect.Success<ReturnType<typeof open>>, name: FiberName) => Effect.Effect<
      { readonly tag: ConnectionError.Reason["_tag"]; readonly logs: number } | undefined
    >
  > = {
    interruption: ({ c }, name) =>
      Effect.gen(function*() {
        const { fiber } = yield* fiberOf(c, name)
        fiber.interruptUnsafe()
        return { tag: "Closed", logs: 0 }
      }),
    failure: ({ c, peer, reading, writing }, name) =>
      Effect.gen(function*() {
        switch (name) {
          case "reader":
            yield* Deferred.fail(reading, socketError)
            return { tag: "TransportFailed", logs: 0 }
          case "writer":
            yield* Effect.forkChild(c.send("x"), { startImmediately: true })
            yield* Deferred.fail(writing, socketError)
            yield* peer.window(Infinity)
            return { tag: "TransportFailed", logs: 0 }
          case "heartbeat":
            yield* Effect.ignore(c.patch({ pingEvery: "1 second" }))
            yield* TestClock.adjust("1 second")
            return { tag: "InvalidMessage", logs: 0 }
          case "deadlines":
            yield* Effect.ignore(c.patch({ idle: "1 second" }))
            yield* TestClock.adjust("1 second")
            return { tag: "IdleTimeout", logs: 0 }
        }
      }),
    defect: ({ breakUnsent, c, peer, reading, writing }, name) =>
      Effect.gen(function*() {
        switch (name) {
          case "reader":
            yield* Deferred.die(reading, new Error("thrown by the reader"))
            return { tag: "Defect", logs: 1 }
          case "writer":
            yield* Effect.forkChild(c.send("x"), { startImmediately: true })
            yield* Deferred.die(writing, new Error("thrown by the writer"))
            yield* peer.window(Infinity)
            return { tag: "Defect", logs: 1 }
          case "heartbeat":
            yield* Effect.ignore(c.patch({ pingEvery: "2 seconds" }))
            yield* TestClock.adjust("2 seconds")
            return { tag: "Defect", logs: 1 }
          case "deadlines":
            breakUnsent(new Error("thrown by the deadlines"))
            yield* Effect.ignore(c.patch({ silence: "1 hour" }))
            yield* TestClock.adjust("1 second")
            return { tag: "Defect", logs: 1 }
        }
      })
  }
  // a ping is encoded in a phase in which the connection pings, and only the one after a second is wrong
  const heartbeats: Record<string, Heartbeat.Heartbeat<string, string>> = {
    failure: { ...Heartbeat.text("ping", "pong"), ping: () => "two\nlines" },
    defect: {
      ...Heartbeat.text("ping", "pong"),
      ping: () => {
        throw new Error("thrown by the heartbeat")
      }
    }
  }
  // a reader that waits for room reads nothing that could fail, a heartbeat pings while the connection is open, rules about
  // the peer hold while it is read, and the write that a closing connection waits for has begun
  const cannot = (name: FiberName, how: string, phase: string): boolean =>
    how !== "interruption" && (
      (name === "reader" && phase === "paused") ||
      (name === "heartbeat" && (phase === "draining" || phase === "closing")) ||
      (name === "deadlines" && how === "failure" && phase !== "open" && phase !== "opening")
    )

  for (const [phase, arrive] of Object.entries(phases)) {
    for (const [how, kill] of Object.entries(kills)) {
      for (const name of names) {
        if (cannot(name, how, phase)) continue
        it.effect(`B101 ${phase}, the ${name}, by ${how}: its connection ends with the reason`, () =>
          Effect.gen(function*() {
            const log = yield* collecting
            const { clock, sleeping } = yield* countingClock
            const scope = yield* Scope.make()
            const other = yield* open()
            const host = yield* Effect.provideService(
              Scope.provide(open({ heartbeat: heartbeats[how] ?? Heartbeat.text("ping", "pong") }), scope),
              Clock.Clock,
              clock
            ).pipe(Effect.provide(log.layer))
            const decided = yield* arrive(host)
            assert.strictEqual((yield* host.c.snapshot).state, states[phase as keyof typeof states])
            const before = (yield* Connection.fibers(host.c)).map((fiber) => fiber.fiber)
            const died = yield* kill(host, name)
            const { reason } = yield* Effect.flip(host.c.closed)
            assert.strictEqual(reason._tag, decided ?? died?.tag)
            if (decided === undefined && how === "interruption") {
              assert.deepInclude(reason, { by: "local", note: `its ${name} was interrupted` })
            }
            if (reason._tag === "Defect") assert.strictEqual(reason.by, name)
            assert.strictEqual(log.lines.length, died?.logs, log.lines.join("\n"))
            yield* settle
            // nothing is left of it
            assert.strictEqual((yield* host.c.snapshot).state, "ended")
            for (const fiber of before) assert.isDefined(fiber.pollUnsafe(), "a fiber still runs")
            yield* host.peer.released
            yield* Scope.close(scope, Exit.void)
            assert.strictEqual(sleeping(), 0)
            // and the next one has not noticed
            assert.isUndefined((yield* other.c.snapshot).reason)
            yield* other.c.send("still here")
            assert.strictEqual(yield* other.peer.take, "still here\n")
          }))
      }
    }
  }

  it.effect("its own fiber: interrupted, it ends with the reason and leaves nothing", () =>
    Effect.gen(function*() {
      const host = yield* open()
      const { fiber } = yield* fiberOf(host.c, "connection")
      const four = (yield* Connection.fibers(host.c)).map((report) => report.fiber)
      yield* Fiber.interrupt(fiber)
      assert.deepInclude((yield* Effect.flip(host.c.closed)).reason, { _tag: "Closed", by: "local" })
      for (const one of four) assert.isDefined(one.pollUnsafe())
      yield* host.peer.released
    }))

  it.effect("the children are interrupted and awaited, then come the last words, the release, and the watchers", () =>
    Effect.gen(function*() {
      const order: Array<string> = []
      const peer = yield* TestSocket.make()
      const note = (what: string) => Effect.sync(() => void order.push(what))
      const socket = Socket.make({
        reader: Effect.gen(function*() {
          yield* Effect.addFinalizer(() => note("transport released"))
          const { pull, upgrade } = yield* peer.socket.reader
          return {
            pull: Effect.onInterrupt(pull, () => Effect.andThen(Effect.yieldNow, note("reader ended"))),
            upgrade
          }
        }),
        writer: Effect.map(peer.socket.writer, (writer) => ({
          ...writer,
          write: (chunk) =>
            Effect.andThen(
              note(`wrote ${Socket.isCloseEvent(chunk) ? "a close" : text(chunk).trim()}`),
              writer.write(chunk)
            ),
          writeAll: (chunks) =>
            Effect.onInterrupt(writer.writeAll(chunks), () => Effect.andThen(Effect.yieldNow, note("writer ended")))
        }))
      })
      const c = yield* Connection.make(socket, {
        codec: Codec.lines(),
        policy: quiet,
        farewell: () => "bye"
      })
      yield* peer.window(0)
      yield* c.send("stuck")
      yield* settle
      const watching = yield* Effect.forkChild(Effect.andThen(Effect.exit(c.closed), note("watcher told")), {
        startImmediately: true
      })
      const deadlines = yield* fiberOf(c, "deadlines")
      deadlines.fiber.interruptUnsafe()
      yield* Fiber.join(watching)
      assert.sameMembers(order.slice(0, 2), ["reader ended", "writer ended"])
      assert.deepStrictEqual(order.slice(2), ["wrote bye", "transport released", "watcher told"])
    }))

  it.effect("last words are not written into the middle of a frame", () =>
    Effect.gen(function*() {
      /** What is written last when the peer takes nothing of this message. */
      const lastWords = (message: string) =>
        Effect.gen(function*() {
          const peer = yield* TestSocket.make()
          const written: Array<string> = []
          const socket = Socket.make({
            reader: peer.socket.reader,
            writer: Effect.map(peer.socket.writer, (writer) => ({
              ...writer,
              write: (chunk) =>
                Effect.sync(() => void written.push(Socket.isCloseEvent(chunk) ? "a close" : text(chunk)))
            }))
          })
          const c = yield* Connection.make(socket, {
            codec: Codec.lines(),
            policy: { ...quiet, drain: 0 },
            farewell: () => "bye"
          })
          yield* peer.window(0)
          yield* c.send(message)
          yield* settle
          yield* c.close
          return written
        })
      // a frame of a single write is whole; one of two writes is not, while the second waits for the first
      assert.deepStrictEqual(yield* lastWords("x".repeat(1024)), ["bye\n"])
      assert.deepStrictEqual(yield* lastWords("x".repeat(100 * 1024)), [])
    }))
})

describe("what the fibers of a connection do", () => {
  it.effect("its own and always four, by name; a heartbeat that is off is parked, and a patch wakes it", () =>
    Effect.gen(function*() {
      const { c, peer } = yield* open()
      yield* settle
      const look = Effect.map(Connection.fibers(c), (all) => all.map(({ name, state }) => `${name} ${state}`))
      assert.deepStrictEqual(yield* look, [
        "connection waiting",
        "reader waiting",
        "writer waiting",
        "heartbeat parked",
        "deadlines parked"
      ])
      yield* c.patch({ pingEvery: "10 seconds", silence: "1 minute" })
      assert.deepStrictEqual((yield* look).slice(3), ["heartbeat waiting", "deadlines waiting"])
      yield* TestClock.adjust("9999 millis")
      assert.strictEqual((yield* fiberOf(c, "heartbeat")).worked, 0)
      yield* TestClock.adjust("1 millis")
      assert.strictEqual((yield* fiberOf(c, "heartbeat")).worked, 1)
      assert.strictEqual(yield* peer.take, "ping\n")
      yield* c.patch({ pingEvery: 0 })
      assert.include(yield* look, "heartbeat parked")
      yield* peer.send("a\nb\nc\n")
      yield* settle
      yield* peer.send("d\n")
      yield* settle
      assert.include(yield* look, "reader paused")
      yield* c.close
      const ended = yield* Connection.fibers(c)
      assert.deepStrictEqual(ended.map(({ state }) => state), Array.from({ length: 5 }, () => "ended"))
      assert.isTrue(ended.every(({ exit }) => exit !== undefined))
    }))

  /** A transport that hands over reads and takes writes in the event, as those of `holdfast/node` do. */
  const direct = () => {
    let take: (chunk: Uint8Array | string) => boolean = () => false
    const waiting: Array<(effect: Effect.Effect<[Uint8Array | string]>) => void> = []
    const ahead: Array<Uint8Array | string> = []
    const written: Array<string> = []
    let takesWrites = true
    const plain = Socket.make({
      reader: Effect.succeed({
        pull: Effect.callback<[Uint8Array | string]>((resume) => {
          const chunk = ahead.shift()
          if (chunk !== undefined) resume(Effect.succeed([chunk]))
          else waiting.push(resume)
        }),
        upgrade: Socket.SocketUpgradeError.unsupported
      }),
      writer: Effect.succeed({
        write: () => Effect.void,
        writeAll: (chunks) => Effect.sync(() => void written.push(`fiber: ${chunks.map(text).join("")}`))
      })
    })
    const socket = Connection.describe(plain, {
      messages: false,
      onRead: (taker) => take = taker,
      writeNow: (chunks) => {
        if (takesWrites) written.push(`turn: ${chunks.map(text).join("")}`)
        return takesWrites
      }
    })
    return {
      socket,
      written,
      /** The event in which bytes come. */
      give: (chunk: string) => {
        if (take(chunk)) return
        const next = waiting.shift()
        if (next === undefined) ahead.push(chunk)
        else next(Effect.succeed([chunk]))
      },
      full: () => {
        takesWrites = false
      }
    }
  }

  const counts = (c: Chat) =>
    Effect.map(
      Connection.fibers(c),
      (all) => Object.fromEntries(all.slice(1, 3).map(({ direct, name, worked }) => [name, `${worked}+${direct}`]))
    )

  it.effect("the short cuts do the reader's and the writer's work, and are counted; the writer has the rest", () =>
    Effect.gen(function*() {
      const peer = direct()
      const c = yield* Connection.make(peer.socket, { codec: Codec.lines(), policy: quiet }).pipe(
        Effect.provideService(ShortCuts, true)
      )
      yield* settle
      peer.give("one\n")
      assert.strictEqual(yield* c.receive, "one")
      yield* c.send("1")
      yield* c.send("2")
      yield* settle
      assert.deepStrictEqual(peer.written, ["turn: 1\n2\n"])
      assert.deepStrictEqual(yield* counts(c), { reader: "0+1", writer: "0+1" })
      peer.full()
      yield* c.send("3")
      yield* settle
      assert.deepStrictEqual(peer.written.slice(1), ["fiber: 3\n"])
      assert.deepStrictEqual(yield* counts(c), { reader: "0+1", writer: "1+1" })
    }))

  it.effect("without them every byte goes through the reader's pull, and every message through the writer's take", () =>
    Effect.gen(function*() {
      const peer = direct()
      const c = yield* Connection.make(peer.socket, { codec: Codec.lines(), policy: quiet }).pipe(
        Effect.provideService(ShortCuts, false)
      )
      yield* settle
      for (let i = 0; i < 10; i++) {
        peer.give(`${i}\n`)
        yield* c.send(yield* c.receive)
        yield* settle
      }
      assert.deepStrictEqual(peer.written, Array.from({ length: 10 }, (_, i) => `fiber: ${i}\n`))
      assert.deepStrictEqual(yield* counts(c), { reader: "10+0", writer: "10+0" })
    }))

  it.effect("the reader interrupted between two events: no message of the second is delivered", () =>
    Effect.gen(function*() {
      const peer = direct()
      const c = yield* Connection.make(peer.socket, { codec: Codec.lines(), policy: quiet }).pipe(
        Effect.provideService(ShortCuts, true)
      )
      yield* settle
      const { fiber } = yield* fiberOf(c, "reader")
      peer.give("first\n")
      fiber.interruptUnsafe()
      peer.give("second\n")
      assert.strictEqual(yield* c.receive, "first")
      const { reason } = yield* Effect.flip(c.receive)
      assert.deepInclude(reason, { _tag: "Closed", by: "local", note: "its reader was interrupted" })
    }))

  it.effect("the writer interrupted between two sends: nothing of the second is written", () =>
    Effect.gen(function*() {
      const peer = direct()
      const c = yield* Connection.make(peer.socket, { codec: Codec.lines(), policy: quiet }).pipe(
        Effect.provideService(ShortCuts, true)
      )
      yield* settle
      yield* c.send("first")
      yield* settle
      const { fiber } = yield* fiberOf(c, "writer")
      fiber.interruptUnsafe()
      const second = yield* Effect.flip(c.send("second"))
      assert.deepInclude(second.reason, { _tag: "Closed", by: "local", note: "its writer was interrupted" })
      yield* settle
      assert.deepStrictEqual(peer.written, ["turn: first\n"])
    }))
})

describe("a mistake in the program", () => {
  it.effect("B100 unsent throws: that connection ends, logged once, with its id and its peer", () =>
    Effect.gen(function*() {
      const log = yield* collecting
      const host = yield* Effect.provide(open(), log.layer)
      host.breakUnsent(new Error("no such handle"))
      yield* host.c.send("x")
      const { isRetryable, reason } = yield* Effect.flip(host.c.closed)
      assert.strictEqual(reason._tag, "Defect")
      assert.isFalse(isRetryable)
      assert.include(reason.message, "no such handle")
      assert.strictEqual(log.lines.length, 1)
      assert.include(log.lines[0], `connection ${host.c.id} with 10.0.0.1:7`)
      assert.include(log.lines[0], "no such handle")
    }))

  it.effect("B100 onRead throws: that connection ends, logged once, and its transport is released", () =>
    Effect.gen(function*() {
      const log = yield* collecting
      const peer = yield* TestSocket.make()
      const socket = Connection.describe(peer.socket, {
        messages: false,
        onRead: () => {
          throw new Error("no events")
        }
      })
      const c = yield* Connection.make(socket, { codec: Codec.lines(), policy: quiet }).pipe(
        Effect.provideService(ShortCuts, true),
        Effect.provide(log.layer)
      )
      const { reason } = yield* Effect.flip(c.closed)
      assert.deepInclude(reason, { _tag: "Defect", by: "transport" })
      yield* peer.released
      assert.strictEqual(log.lines.length, 1)
    }))

  it.effect("B100 a heartbeat whose reader cannot be made: no connection, and no transport left", () =>
    Effect.gen(function*() {
      const peer = yield* TestSocket.make()
      const heartbeat = {
        ping: () => "ping",
        reader: () => {
          throw new Error("no reader")
        }
      }
      const exit = yield* Effect.exit(Connection.make(peer.socket, { codec: Codec.lines(), heartbeat, policy: quiet }))
      assert.isTrue(Exit.isFailure(exit) && Cause.hasDies(exit.cause))
      yield* peer.released
    }))

  for (
    const [what, options] of Object.entries<Partial<Connection.Options<string, string>>>({
      goodbye: {
        goodbye: () => {
          throw new Error("thrown by goodbye")
        }
      },
      farewell: {
        farewell: () => {
          throw new Error("thrown by farewell")
        }
      }
    })
  ) {
    it.effect(`B100 ${what} throws: the connection ends, logged once, and what drains it goes on`, () =>
      Effect.gen(function*() {
        const log = yield* collecting
        const peer = yield* TestSocket.make()
        const c = yield* Connection.make(peer.socket, { codec: Codec.lines(), policy: quiet, ...options }).pipe(
          Effect.provide(log.layer)
        )
        const { GoingAway } = yield* reasons
        yield* c.drainWith(new GoingAway({}))
        yield* c.close
        assert.strictEqual((yield* c.snapshot).state, "ended")
        assert.strictEqual(log.lines.length, 1, log.lines.join("\n"))
        assert.include(log.lines[0], `thrown by ${what}`)
        yield* peer.released
      }))
  }

  it.effect("B102 a schedule of pings that ends, fails or dies is replaced by the default, with one line", () =>
    Effect.gen(function*() {
      const { Schedule } = yield* Effect.promise(() => import("effect"))
      const schedules = {
        ends: Schedule.max([Schedule.recurs(1), Schedule.spaced("1 second")]),
        fails: Schedule.fromStep(Effect.succeed(() => Effect.fail("no"))),
        dies: Schedule.fromStep(Effect.succeed(() => Effect.die(new Error("no")))),
        throws: Schedule.fromStep(Effect.succeed(() => {
          throw new Error("no")
        }))
      }
      for (const [name, pings] of Object.entries(schedules)) {
        const log = yield* collecting
        const peer = yield* TestSocket.make()
        const c = yield* Connection.make(peer.socket, {
          codec: Codec.lines(),
          heartbeat: Heartbeat.text("ping", "pong"),
          pings: pings as never,
          policy: { ...quiet, pingEvery: "10 seconds" }
        }).pipe(Effect.provide(log.layer))
        yield* TestClock.adjust("35 seconds")
        const pinged = (yield* peer.text).split("\n").length - 1
        assert.isAtLeast(pinged, 3, name)
        assert.isUndefined((yield* c.snapshot).reason, name)
        assert.strictEqual(log.lines.length, 1, `${name}: ${log.lines.join("\n")}`)
      }
    }))

  it.effect("B104 a framing that writes past what it announced fails its sender, and no byte of another connection", () =>
    Effect.gen(function*() {
      const { framing, payload } = Codec.lengthPrefix()
      const wrong = Codec.make<Uint8Array>({
        framing: {
          ...framing,
          encodeInto: (body, target, at) => {
            framing.encodeInto!(body, target, at)
            for (let i = 0; i < 40; i++) target[at + 4 + body.length + i] = 0x21
          }
        },
        payload
      })
      const one = yield* TestSocket.make()
      const two = yield* TestSocket.make()
      const a = yield* Connection.make(one.socket, { codec: wrong, policy: quiet })
      const b = yield* Connection.make(two.socket, { codec: Codec.lines(), policy: quiet })
      const sent = yield* Effect.exit(a.send(new Uint8Array(200)))
      yield* b.send("secret")
      assert.isTrue(Exit.isFailure(sent) && Cause.hasDies(sent.cause))
      assert.strictEqual(yield* two.take, "secret\n")
    }))

  it.effect("B105 a broadcast goes on after a connection whose encoder throws, and counts it as failed", () =>
    Effect.gen(function*() {
      const registry = yield* Registry.make<string>()
      const throwing = Codec.make<string>({
        framing: Codec.lines().framing,
        payload: {
          ...Codec.lines().payload,
          encode: () => {
            throw new Error("no")
          }
        }
      })
      const peers: Array<TestSocket.Peer> = []
      for (const codec of [Codec.lines(), throwing, Codec.lines()]) {
        const peer = yield* TestSocket.make()
        peers.push(peer)
        yield* registry.add(yield* Connection.make(peer.socket, { codec, policy: quiet }))
      }
      assert.deepStrictEqual(yield* registry.broadcast("news"), { delivered: 2, dropped: 0, failed: 1 })
      assert.strictEqual(yield* peers[0]!.take, "news\n")
      assert.strictEqual(yield* peers[2]!.take, "news\n")
    }))

  for (
    const [what, last, tag] of [
      ["a bad frame", `${"x".repeat(11)}\n`, "FrameTooLong"],
      ["a defect of the codec", "throw\n", "Defect"],
      ["a defect of the heartbeat", "burn\n", "Defect"]
    ] as const
  ) {
    it.effect(`B106 messages before ${what} in one read are delivered, and answered before the end`, () =>
      Effect.gen(function*() {
        const log = yield* collecting
        const peer = yield* TestSocket.make()
        const lines = Codec.lines()
        const codec = Codec.make<string>({
          framing: lines.framing,
          payload: {
            ...lines.payload,
            decode: (frame) => {
              const text = String(frame)
              if (text === "throw") throw new Error("thrown by decode")
              return lines.payload.decode(frame)
            }
          }
        })
        const c = yield* Connection.make(peer.socket, {
          codec,
          heartbeat: Heartbeat.make<string, string>({
            ping: () => "ping",
            read: (message) => {
              if (message === "burn") throw new Error("thrown by read")
              return undefined
            }
          }),
          policy: { ...quiet, maxFrame: 10 }
        }).pipe(Effect.provide(log.layer))
        const handler = yield* Effect.forkChild(
          Effect.forever(Effect.flatMap(c.receive, (message) => c.send(`got ${message}`))),
          { startImmediately: true }
        )
        yield* peer.send(`one\ntwo\n${last}three\n`)
        const { reason } = yield* Effect.flip(c.closed)
        assert.strictEqual(reason._tag, tag)
        assert.strictEqual(yield* peer.text, "got one\ngot two\n")
        assert.strictEqual(log.lines.length, tag === "Defect" ? 1 : 0)
        assert.isTrue(Exit.isFailure(yield* Fiber.await(handler)))
      }))
  }

  it.effect("B106 a receiver that does not come back for the end holds it for the drain, to the millisecond", () =>
    Effect.gen(function*() {
      const { c, peer } = yield* open({ policy: { maxFrame: 10, drain: "5 seconds" } })
      yield* peer.send(`one\n${"x".repeat(11)}\n`)
      assert.strictEqual(yield* c.receive, "one")
      yield* TestClock.adjust("4999 millis")
      assert.strictEqual((yield* c.snapshot).state, "draining")
      yield* TestClock.adjust("1 millis")
      assert.strictEqual((yield* c.snapshot).state, "ended")
      assert.strictEqual((yield* Effect.flip(c.closed)).reason._tag, "FrameTooLong")
    }))

  it.effect("B103 a connection that is wrapped does what is replaced, and is the one inside for everything else", () =>
    Effect.gen(function*() {
      const { c, peer } = yield* open()
      const seen: Array<string> = []
      const wrapped = Connection.wrap(c, {
        receive: Effect.tap(c.receive, (message) => Effect.sync(() => seen.push(`in ${message}`))),
        send: (message) => Effect.andThen(Effect.sync(() => seen.push(`out ${message}`)), c.send(message))
      })
      yield* peer.send("a\nb\n")
      assert.strictEqual(yield* wrapped.receive, "a")
      assert.deepStrictEqual(yield* wrapped.receiveAll, ["b"])
      yield* wrapped.sendAll(["c", "d"])
      assert.deepStrictEqual(seen, ["in a", "in b", "out c", "out d"])
      assert.strictEqual(yield* peer.take, "c\nd\n")
      assert.strictEqual(wrapped.id, c.id)
      assert.strictEqual((yield* Connection.fibers(wrapped)).length, 5)
      yield* wrapped.close
      assert.strictEqual((yield* c.snapshot).state, "ended")
    }))

  it.effect("B103 a wrapped connection whose offerFrame is replaced is told of its end, and broadcast to by its own", () =>
    Effect.gen(function*() {
      const { c } = yield* open()
      const registry = yield* Registry.make<string>()
      let offered = 0
      const wrapped = Connection.wrap(c, {
        offerFrame: () => Effect.sync(() => ++offered > 0)
      })
      yield* registry.add(wrapped)
      assert.deepStrictEqual(yield* registry.broadcast("news"), { delivered: 1, dropped: 0, failed: 0 })
      assert.strictEqual(offered, 1)
      yield* c.close
      assert.strictEqual(yield* registry.size, 0)
    }))
})
