/** What a fleet promises when something is wrong, on TestClock: each line of the table in the guide has its test here. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Stream } from "effect"
import { TestClock } from "effect/testing"
import type { ConnectionError, Fleet } from "../../src/index.ts"
import { Memory } from "../../src/internal/backplane/memory.ts"
import { lease, node, renewal, type TestNode } from "./support/stage.ts"

/** Nodes that know each other. */
const stage = (names: ReadonlyArray<string>, options?: Parameters<typeof node>[1]) =>
  Effect.gen(function*() {
    const memory = new Memory()
    const nodes: Array<TestNode> = []
    for (const name of names) nodes.push(yield* node(memory, { name, ...options }))
    yield* TestClock.adjust(lease / 3)
    return { memory, a: nodes[0]!, b: nodes[1]!, c: nodes[2]! }
  })

/** What may have to try again does so within this time. */
const soon = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.gen(function*() {
    const fiber = yield* Effect.forkChild(effect, { startImmediately: true })
    // in steps: what is said and answered needs turns, and no time
    for (let i = 0; i < 20; i++) yield* TestClock.adjust(25)
    const exit = fiber.pollUnsafe()
    if (exit === undefined) throw new Error("it waits for more than that")
    return yield* exit
  })

const status = ({ fleet }: TestNode) => Effect.map(fleet.state, ({ status }) => status)

const tags = (reasons: ReadonlyArray<ConnectionError.Reason>) => reasons.map(({ _tag }) => _tag)

/** Collects what is told from now on. */
const changesOf = ({ fleet }: TestNode) =>
  Effect.gen(function*() {
    const seen: Array<Fleet.Change> = []
    yield* Effect.forkScoped(Stream.runForEach(fleet.changes, (change) => Effect.sync(() => seen.push(change))))
    yield* TestClock.adjust(0)
    return seen
  })

const many = Array.from({ length: 50 }, (_, i) => `${i}`)

describe("delivery", () => {
  it.effect("at most once, and in order for each sending node and key, also while the key moves", () =>
    Effect.gen(function*() {
      const { a, b, c } = yield* stage(["a", "b", "c"])
      const one = yield* a.login("ada")
      const sending = yield* Effect.forkScoped(
        Effect.forEach(many, (text) => c.fleet.send("ada", text), { concurrency: "unbounded" })
      )
      const two = yield* b.login("ada")
      yield* TestClock.adjust("1 second")
      const outcomes = yield* Fiber.join(sending)
      assert.deepStrictEqual([...one.sent, ...two.sent], many)
      assert.deepStrictEqual(new Set(outcomes), new Set(["accepted"]))
    }))

  it.effect("a full outbox is `full`, a key that nobody has is `offline`", () =>
    Effect.gen(function*() {
      const { a, b } = yield* stage(["a", "b"])
      yield* a.login("ada", [], { isFull: () => true })
      assert.strictEqual(yield* b.fleet.send("ada", "hello"), "full")
      assert.strictEqual(yield* b.fleet.send("bob", "hello"), "offline")
    }))

  it.effect("a message larger than a batch of the engine fails, and says so", () =>
    Effect.gen(function*() {
      const { a, b } = yield* stage(["a", "b"])
      yield* a.login("ada")
      const error = yield* Effect.flip(b.fleet.send("ada", "x".repeat(1_048_576)))
      assert.strictEqual(error.reason._tag, "MessageTooLarge")
    }))
})

describe("logins", () => {
  it.effect("of many at once on all nodes exactly one survives", () =>
    Effect.gen(function*() {
      const { a, b, c } = yield* stage(["a", "b", "c"])
      const tries = Array.from({ length: 30 }, (_, i) => Effect.exit([a, b, c][i % 3]!.login("ada")))
      const racing = yield* Effect.forkScoped(Effect.all(tries, { concurrency: "unbounded" }))
      yield* TestClock.adjust(lease)
      const logins = (yield* Fiber.join(racing)).flatMap((exit) => Exit.isSuccess(exit) ? [exit.value] : [])
      const open = logins.filter(({ isOpen }) => isOpen())
      assert.strictEqual(open.length, 1)
      for (const { fleet } of [a, b, c]) assert.strictEqual(yield* fleet.send("ada", "hello"), "accepted")
      assert.strictEqual(open[0]!.sent.length, 3)
    }))

  it.effect("under `reject` the second one fails on any node, and the first stays", () =>
    Effect.gen(function*() {
      const { a, b } = yield* stage(["a", "b"], { registry: { duplicates: "reject" } })
      const one = yield* a.login("ada")
      for (const where of [a, b]) {
        assert.strictEqual((yield* Effect.flip(where.login("ada"))).reason._tag, "DuplicateKey")
      }
      assert.isTrue(one.isOpen())
      yield* one.logout
      yield* TestClock.adjust(0)
      yield* b.login("ada")
    }))

  it.effect("under `reject` a second one that was refused is nothing to the first, also when that claims its key again", () =>
    Effect.gen(function*() {
      const { a, b } = yield* stage(["a", "b"], { registry: { duplicates: "reject" } })
      const one = yield* a.login("ada")
      assert.strictEqual((yield* Effect.flip(b.login("ada"))).reason._tag, "DuplicateKey")
      a.link.set("down")
      yield* TestClock.adjust(lease / 3)
      a.link.set("up")
      yield* TestClock.adjust(lease)
      assert.deepStrictEqual(tags(one.reasons), [])
      assert.strictEqual(yield* b.fleet.send("ada", "hello"), "accepted")
      assert.deepStrictEqual(one.sent, ["hello"])
      assert.strictEqual((yield* Effect.flip(b.login("ada"))).reason._tag, "DuplicateKey")
    }))

  it.effect("under `reject` one that was let in without the engine does not take the key of another", () =>
    Effect.gen(function*() {
      const { a, b } = yield* stage(["a", "b"], { registry: { duplicates: "reject" }, logins: "admit" })
      const one = yield* a.login("ada")
      b.link.set("down")
      yield* TestClock.adjust(lease / 3)
      const other = yield* Effect.forkChild(b.login("ada"), { startImmediately: true })
      yield* TestClock.adjust(lease)
      const admitted = yield* Fiber.join(other)
      b.link.set("up")
      yield* TestClock.adjust(lease)
      assert.deepStrictEqual([one.isOpen(), admitted.isOpen()], [true, false])
      assert.strictEqual(yield* b.fleet.send("ada", "hello"), "accepted")
      assert.deepStrictEqual(one.sent, ["hello"])
    }))
})

describe("a node that dies", () => {
  it.effect("is `unknown` for what was under way, and `offline` when its lease is over", () =>
    Effect.gen(function*() {
      const { a, b } = yield* stage(["a", "b"], { answerWithin: "1 minute" })
      yield* a.login("ada")
      assert.strictEqual(yield* b.fleet.send("ada", "before"), "accepted")
      // frozen for good: its inbox takes, and nothing comes back
      a.link.set("silent")
      const sending = yield* Effect.forkScoped(b.fleet.send("ada", "under way"))
      // renewed at 1,800 ms, so its lease is over at 7,800, and at 9,000 the other node renews and sees it; now is 2,000
      yield* TestClock.adjust(5 * renewal - lease / 3 - 1)
      assert.isUndefined(sending.pollUnsafe())
      yield* TestClock.adjust(1)
      assert.strictEqual(yield* Fiber.join(sending), "unknown")
      assert.strictEqual(yield* soon(b.fleet.send("ada", "after")), "offline")
      assert.strictEqual(yield* b.fleet.where("ada"), undefined)
      assert.deepStrictEqual((yield* b.fleet.nodes).map(({ isHere }) => isHere), [true])
    }))

  it.effect("holds a login elsewhere up for its lease at the most", () =>
    Effect.gen(function*() {
      const { a, b } = yield* stage(["a", "b"])
      yield* a.login("ada")
      a.link.set("silent")
      const login = yield* Effect.forkScoped(b.login("ada"))
      yield* TestClock.adjust("1 second")
      assert.isUndefined(login.pollUnsafe())
      yield* TestClock.adjust(lease)
      const two = yield* Fiber.join(login)
      assert.strictEqual(yield* b.fleet.send("ada", "hello"), "accepted")
      assert.deepStrictEqual(two.sent, ["hello"])
    }))
})

describe("a node that hears nothing", () => {
  it.effect("of an engine that answers: it is fenced, joins again after two leases, and serves", () =>
    Effect.gen(function*() {
      const { a } = yield* stage(["a"])
      const peer = yield* a.login("ada")
      const seen = yield* changesOf(a)
      a.link.losing = Infinity
      yield* TestClock.adjust(lease)
      assert.deepStrictEqual(seen.map(({ _tag }) => _tag), ["Fenced"])
      assert.strictEqual(yield* status(a), "fenced")
      yield* TestClock.adjust(lease)
      yield* TestClock.adjust(lease / 3)
      assert.deepStrictEqual(seen.map(({ _tag }) => _tag).slice(0, 3), ["Fenced", "Cut", "Joined"])
      a.link.losing = 0
      yield* TestClock.adjust(lease)
      assert.strictEqual(yield* status(a), "joined")
      assert.strictEqual(yield* soon(a.fleet.send("ada", "hello")), "accepted")
      assert.deepStrictEqual(peer.sent, ["hello"])
    }))
})

describe("a node that is cut off", () => {
  it.effect("serves its own keys until 0.9 of its lease, and nothing after it; connections stay", () =>
    Effect.gen(function*() {
      const { a } = yield* stage(["a", "b"])
      const ada = yield* a.login("ada")
      // renewed at 1,800 ms; now is 2,000
      a.link.set("silent")
      yield* TestClock.adjust(renewal + 0.9 * lease - lease / 3 - 1)
      assert.strictEqual(yield* a.fleet.send("ada", "still"), "accepted")
      yield* TestClock.adjust(1)
      assert.notStrictEqual(yield* a.fleet.registry.offer("ada", "fenced"), "accepted")
      assert.strictEqual(yield* status(a), "fenced")
      assert.deepStrictEqual(ada.sent, ["still"])
      assert.isTrue(ada.isOpen())
    }))

  it.effect("has its keys checked before it delivers again", () =>
    Effect.gen(function*() {
      const { a, b } = yield* stage(["a", "b"])
      const ada = yield* a.login("ada")
      const bob = yield* a.login("bob")
      a.link.set("silent")
      yield* TestClock.adjust(2 * lease)
      const two = yield* b.login("ada")
      a.link.set("up")
      yield* TestClock.adjust(lease)
      assert.deepStrictEqual(tags(ada.reasons), ["Superseded"])
      assert.isTrue(bob.isOpen())
      assert.strictEqual(yield* status(a), "joined")
      assert.strictEqual(yield* b.fleet.send("bob", "hello"), "accepted")
      assert.strictEqual(yield* a.fleet.send("ada", "hello"), "accepted")
      assert.deepStrictEqual([ada.sent, bob.sent, two.sent], [[], ["hello"], ["hello"]])
    }))
})

describe("a node that wakes", () => {
  it.effect("after another node has taken its key and frozen itself: ends the older login, and serves it no more", () =>
    Effect.gen(function*() {
      const { a, b, c } = yield* stage(["a", "b", "c"])
      const ada = yield* a.login("ada")
      a.link.set("silent")
      yield* TestClock.adjust(2 * lease)
      const two = yield* b.login("ada")
      b.link.set("silent")
      // b's lease is over, and it may have the newer login still
      yield* TestClock.adjust(2 * lease)
      a.link.set("up")
      yield* TestClock.adjust(lease)
      assert.deepStrictEqual(tags(ada.reasons), ["Superseded"])
      assert.strictEqual(yield* soon(c.fleet.send("ada", "while b is away")), "offline")
      b.link.set("up")
      yield* TestClock.adjust(lease)
      assert.strictEqual(yield* soon(c.fleet.send("ada", "when b is back")), "accepted")
      assert.deepStrictEqual([ada.sent, two.sent], [[], ["when b is back"]])
    }))
})

describe("an engine that is down", () => {
  it.effect("leaves connections alive, sends are `cut`, and new logins are refused", () =>
    Effect.gen(function*() {
      const { a, b } = yield* stage(["a", "b"])
      const ada = yield* a.login("ada")
      for (const { link } of [a, b]) link.set("down")
      yield* TestClock.adjust(1)
      assert.strictEqual(yield* status(b), "cut")
      assert.strictEqual(yield* b.fleet.send("ada", "hello"), "cut")
      const login = yield* Effect.forkScoped(Effect.flip(b.login("bob")))
      yield* TestClock.adjust(lease)
      const error = yield* Fiber.join(login)
      assert.deepStrictEqual(
        error.reason,
        new (error.reason.constructor as typeof ConnectionError.Refused)({
          limit: "fleet"
        })
      )
      assert.isTrue(ada.isOpen())
    }))

  it.effect("lets new logins in under `admit`, and claims their keys once it is back", () =>
    Effect.gen(function*() {
      const { a, b } = yield* stage(["a", "b"], { logins: "admit" })
      for (const { link } of [a, b]) link.set("down")
      yield* TestClock.adjust(1)
      const logins = yield* Effect.forkScoped(Effect.all([a.login("bob"), b.login("bob")], { concurrency: 2 }))
      yield* TestClock.adjust(lease)
      const [one, two] = yield* Fiber.join(logins)
      assert.deepStrictEqual([one.isOpen(), two.isOpen()], [true, true])
      for (const { link } of [a, b]) link.set("up")
      yield* TestClock.adjust(2 * lease)
      assert.strictEqual([one, two].filter(({ isOpen }) => isOpen()).length, 1)
      assert.strictEqual(yield* a.fleet.send("bob", "hello"), "accepted")
      assert.strictEqual(yield* b.fleet.send("bob", "hello"), "accepted")
    }))

  it.effect("and never answers: every send and every login ends in time", () =>
    Effect.gen(function*() {
      const { a } = yield* stage(["a", "b"])
      a.link.set("silent")
      const asked = yield* Effect.forkScoped(
        Effect.all([a.fleet.send("eve", "hello"), Effect.exit(a.login("bob"))], { concurrency: 2 })
      )
      yield* TestClock.adjust(lease)
      const [outcome, login] = yield* Fiber.join(asked)
      assert.strictEqual(outcome, "cut")
      assert.isTrue(Exit.isFailure(login))
    }))
})

describe("an engine that comes back empty", () => {
  it.effect("has a new epoch: all claim again, and new logins wait for one lease", () =>
    Effect.gen(function*() {
      const { a, b, memory } = yield* stage(["a", "b"])
      const ada = yield* a.login("ada")
      const changes = yield* changesOf(a)
      memory.wipe()
      yield* TestClock.adjust(lease / 2)
      assert.isTrue(changes.some((change) => change._tag === "Joined" && change.isNewEpoch))
      assert.strictEqual(yield* b.fleet.send("ada", "hello"), "accepted")
      const login = yield* Effect.forkScoped(b.login("bob"))
      yield* TestClock.adjust(lease / 4)
      assert.isUndefined(login.pollUnsafe())
      yield* TestClock.adjust(lease)
      yield* Fiber.join(login)
      assert.deepStrictEqual(ada.sent, ["hello"])
      // a newer login is newer than what was claimed in the epoch before
      yield* b.login("ada")
      assert.deepStrictEqual(tags(ada.reasons), ["Superseded"])
    }))
})

describe("an inbox that has lost batches", () => {
  it.effect("says how many, and the keys are checked before they are served on", () =>
    Effect.gen(function*() {
      const { a, b } = yield* stage(["a", "b"])
      yield* a.login("ada")
      yield* b.fleet.send("ada", "one")
      const changes = yield* changesOf(a)
      b.link.losing = 3
      const lost = yield* Effect.forkScoped(
        Effect.forEach(["two", "three", "four"], (text) => Effect.timeoutOption(b.fleet.send("ada", text), 10))
      )
      yield* TestClock.adjust(40)
      yield* Fiber.join(lost)
      yield* soon(b.fleet.send("ada", "five"))
      const gap = changes.find(({ _tag }) => _tag === "Gap")
      assert.deepStrictEqual(gap, { _tag: "Gap", count: 3, from: b.fleet.node })
      assert.strictEqual((yield* a.fleet.state).gaps, 3)
      assert.strictEqual(yield* soon(b.fleet.send("ada", "six")), "accepted")
    }))

  it.effect("a takeover whose word was lost ends the older login all the same", () =>
    Effect.gen(function*() {
      const { a, b } = yield* stage(["a", "b"])
      const ada = yield* a.login("ada")
      yield* b.fleet.send("ada", "one")
      b.link.losing = 1
      const login = yield* Effect.forkScoped(b.login("ada"))
      yield* TestClock.adjust(10)
      // it lets the node see that something is missing
      yield* Effect.forkScoped(b.fleet.broadcast("hello"))
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(tags(ada.reasons), ["Superseded"])
      yield* TestClock.adjust(lease)
      yield* Fiber.join(login)
      assert.strictEqual(yield* a.fleet.send("ada", "two"), "accepted")
    }))
})

describe("a node that stops", () => {
  it.effect("says so first, takes no new logins, is reached until the end, and then is gone at once", () =>
    Effect.gen(function*() {
      const { a, b } = yield* stage(["a", "b"])
      const ada = yield* a.login("ada")
      yield* a.fleet.leave
      yield* TestClock.adjust(lease / 3)
      const seen = (yield* b.fleet.nodes).find(({ node }) => node === a.fleet.node)
      assert.isTrue(seen?.isLeaving)
      assert.strictEqual((yield* Effect.flip(a.login("bob"))).reason._tag, "Refused")
      assert.strictEqual(yield* soon(b.fleet.send("ada", "still here")), "accepted")
      // handed over: the client comes again elsewhere, while the old node drains
      const two = yield* soon(b.login("ada"))
      assert.deepStrictEqual(tags(ada.reasons), ["Superseded"])
      yield* a.login("eve").pipe(Effect.ignore)
      yield* soon(a.stop)
      assert.strictEqual(yield* soon(b.fleet.send("ada", "after")), "accepted")
      assert.deepStrictEqual(two.sent, ["after"])
      yield* TestClock.adjust(lease / 3)
      assert.strictEqual((yield* b.fleet.nodes).length, 1)
    }))

  it.effect("gives its keys back at once", () =>
    Effect.gen(function*() {
      const { a, b } = yield* stage(["a", "b"])
      yield* a.login("ada")
      yield* soon(a.stop)
      assert.strictEqual(yield* b.fleet.where("ada"), undefined)
      yield* soon(b.login("ada"))
    }))
})
