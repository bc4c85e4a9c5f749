/** Registries in storms: connections that come, are renamed, superseded, tagged and lost, while messages go to all of them. */
import { describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { Codec, Connection, type ConnectionError, Registry } from "../../src/index.ts"
import { TestSocket } from "../../src/testing/index.ts"
import { long, often } from "../support/often.ts"
import { aWhile, type Dice, dies, type Findings, later, pass, settle, start, storms } from "../support/storms.ts"

type Lines = Connection.Connection<string>

interface Member {
  readonly connection: Lines
  readonly peer: TestSocket.Peer
  readonly scope: Scope.Closeable
}

const lines = Connection.make({ codec: Codec.lines(), policy: { pingEvery: 0, silence: 0, drain: 100 } })

const keys = ["ada", "bob"]
const tags = ["x", "y", "z"]

const stateOf = ({ connection }: { readonly connection: Lines }) =>
  Effect.map(connection.snapshot, ({ state }) => state)

const some = (dice: Dice): ReadonlyArray<string> => tags.filter(() => dice.percent(40))

/** What a reader of the changes knows: the tags and the key of each connection, by its id. */
const follow = (registry: Registry.Registry<string>, known: Map<number, string>) => {
  const line = (key: string | undefined, tags: ReadonlySet<string>) => `${key} ${[...tags].toSorted().join()}`
  return Stream.runForEach(registry.changes, (change) =>
    Effect.sync(() => {
      if (change._tag === "Current") {
        known.clear()
        for (const { connection, key, tags } of change.entries) known.set(connection.id, line(key, tags))
      } else if (change._tag === "Ended") known.delete(change.id)
      else known.set(change.id, line(change.key, change.tags))
    }))
}

// a step that lets time pass does so once nothing more happens, and what that begins takes its turns as well
const calm = Effect.andThen(settle, settle)

/** Holds when nothing is in the middle of something. */
const rules = Effect.fnUntraced(function*(
  registry: Registry.Registry<string>,
  found: Findings,
  known: ReadonlyMap<number, string>
) {
  const entries = yield* registry.entries
  found.check((yield* registry.size) === entries.length, "the size is not that of the entries")
  const living = new Map<string, number>()
  for (const { connection, key, tags } of entries) {
    const state = yield* stateOf({ connection })
    found.check(state !== "ended", "what has ended is registered")
    found.check(known.get(connection.id) === `${key} ${[...tags].toSorted().join()}`, "the changes say something else")
    if (key === undefined || state === "closing") continue
    found.check(!living.has(key), "two living connections have one key")
    living.set(key, connection.id)
  }
  found.check(known.size === entries.length, "the changes tell of what is not registered")
  for (const key of keys) {
    const holder = yield* registry.getKey(key)
    const id = holder._tag === "Some" ? holder.value.id : undefined
    found.check(living.get(key) === undefined || living.get(key) === id, "a key leads to another connection")
    found.check(id === undefined || entries.some((entry) => entry.connection.id === id), "a key leads to none")
  }
  for (const tag of tags) {
    const ids = (yield* registry.getTag(tag)).map(({ id }) => id)
    const expected = entries.filter((entry) => entry.tags.has(tag)).map(({ connection }) => connection.id)
    found.check(ids.join() === expected.join(), "a tag leads to other connections")
  }
})

const storm = Effect.fnUntraced(function*(dice: Dice, found: Findings) {
  const scope = yield* Scope.make()
  const sessions: Array<Member> = []
  const registry = yield* Scope.provide(
    Registry.make<string>({
      duplicates: dice.one(["takeover", "reject"]),
      history: 1000,
      changes: dice.one([0, 3, 1024]),
      expired: ({ age }) => age > 300 || dice.percent(3) && Effect.runSync(dies)
    }),
    scope
  )
  const known = new Map<number, string>()
  const follower = yield* start(follow(registry, known))
  const wraps = (connection: Lines): Lines =>
    dice.percent(20)
      ? Connection.wrap(connection, {
        closeWith: (reason: ConnectionError.Reason) => Effect.andThen(Effect.void, connection.closeWith(reason))
      })
      : connection
  const comes = Effect.gen(function*() {
    const peer = yield* TestSocket.make()
    const scope = yield* Scope.make()
    const connection = wraps(yield* Scope.provide(lines(peer.socket), scope))
    const member = { connection, peer, scope }
    sessions.push(member)
    yield* adds(member)
  })
  const adds = ({ connection, scope }: Member) =>
    Effect.suspend(() => {
      const key = dice.percent(70) ? dice.one(keys) : undefined
      const names = { key, tags: some(dice) }
      return Effect.ignore(Scope.provide(registry.add(connection, names), scope))
    })
  for (let step = 0; step < 40; step++) {
    const one = dice.one(sessions)
    yield* dice.pick<Effect.Effect<unknown, unknown>>(
      [25, comes],
      [15, one === undefined ? Effect.void : adds(one)],
      [15, one === undefined ? Effect.void : registry.tag(one.connection.id, { add: some(dice), remove: some(dice) })],
      [6, one === undefined ? Effect.void : start(Scope.close(one.scope, dice.one([Exit.void, Exit.interrupt()])))],
      [6, one?.connection.close ?? Effect.void],
      [4, one?.peer.reset ?? Effect.void],
      [4, one?.peer.window(dice.one([0, Infinity])) ?? Effect.void],
      [8, registry.broadcast("hello", { tag: dice.one([undefined, ...tags]) })],
      [8, registry.offer(dice.one(keys), "hello")],
      [4, Effect.map(registry.sweep, (count) => found.check(count >= 0, "a sweep of less than nothing"))],
      [1, start(Scope.close(scope, Exit.void))],
      [20, later(dice.below(60))]
    ).pipe(Effect.ignoreCause, start)
    yield* aWhile(dice)
    if (dice.percent(30) && scope.state._tag !== "Closed") {
      yield* calm
      yield* rules(registry, found, known)
    }
  }
  yield* calm
  if (scope.state._tag !== "Closed") yield* rules(registry, found, known)
  if (dice.percent(50)) yield* Scope.close(scope, Exit.void)
  for (const member of sessions) yield* start(Scope.close(member.scope, Exit.interrupt()))
  yield* pass(2)
  found.check((yield* registry.size) === 0, "connections whose scope has closed are registered")
  yield* Scope.close(scope, Exit.void)
  yield* Fiber.interrupt(follower)
})

describe("a registry in storms", () => {
  const count = often(12, 500)
  it.effect(
    `B97 B147 ${count} with connections that are renamed, superseded and lost`,
    () => storms(count, storm),
    long(120_000)
  )
})
