/** Checks of leases and epochs: who lives, and what an engine does once it has lost its memory. */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import type { Session } from "../../../Backplane.ts"
import { type Bench, type Check, check, expect } from "./steps.ts"

const names = ({ does }: Bench, session: Session) =>
  Effect.map(does("the nodes", session.nodes), (members) => members.map(({ node }) => node).toSorted())

export const leases: ReadonlyArray<Check> = [
  check(
    "nodes that have joined are known to all, and a node says that it is leaving",
    (bench) =>
      Effect.gen(function*() {
        const a = yield* bench.join("a")
        const b = yield* bench.join("b")
        const seen = yield* names(bench, a)
        yield* expect(seen.join() === "a,b", "a and b", seen)
        yield* bench.does("a renewal", b.renew(true))
        const members = yield* bench.does("the nodes", a.nodes)
        const isTold = members.every(({ isLeaving, node }) => isLeaving === (node === "b"))
        yield* expect(isTold, "b, and b alone, to be leaving", members)
      })
  ),

  check("a lease that is renewed lasts, and one that is not ends", (bench) =>
    Effect.gen(function*() {
      const { does, fails, lease } = bench
      const a = yield* bench.join("a")
      const b = yield* bench.join("b")
      yield* does("a claim", a.claim("a's"))
      yield* does("a claim", b.claim("b's"))
      for (let i = 0; i < 6; i++) {
        yield* Effect.sleep(lease / 3)
        yield* does("a renewal", a.renew(false))
      }
      const seen = yield* names(bench, a)
      yield* expect(seen.join() === "a", "a alone, two leases after b's last word", seen)
      yield* expect((yield* does("a find", a.find("a's")))?.node === "a", "a to hold its key", "nothing")
      yield* expect((yield* does("a find", a.find("b's"))) === undefined, "b to hold nothing", "a holder")
      const claim = yield* does("a claim", a.claim("b's"))
      yield* expect(claim._tag === "Claimed", "its key to be free", claim)
      const why = yield* fails("the renewal of a lease that has ended to fail", b.renew(false))
      yield* expect(why === "lease", "lease", why)
    })),

  check(
    "the end of a session is not the end of its lease, and the node may join again",
    (bench) =>
      Effect.gen(function*() {
        const { does, lease } = bench
        const b = yield* bench.join("b")
        const first = yield* Scope.make()
        const a = yield* Scope.provide(bench.join("a"), first)
        const claim = yield* does("a claim", a.claim("key"))
        yield* Scope.close(first, Exit.void)
        yield* expect((yield* does("a find", b.find("key")))?.node === "a", "a to hold its key", "nothing")
        const again = yield* bench.join("a")
        const found = yield* does("a find", again.find("key"))
        const isSame = claim._tag === "Claimed" && found?.token.number === claim.token.number
        yield* expect(isSame, "the key it had, and the token", found)
        yield* expect(again.epoch === a.epoch, "the same epoch", [a.epoch, again.epoch])
        yield* Effect.sleep((2 * lease) / 3)
        yield* does("a renewal", again.renew(false))
      })
  ),

  check("a node that leaves is gone at once, and its keys are free", (bench) =>
    Effect.gen(function*() {
      const { does } = bench
      const a = yield* bench.join("a")
      const b = yield* bench.join("b")
      yield* does("a claim", a.claim("key"))
      yield* does("a leaves", a.leave)
      const seen = yield* names(bench, b)
      yield* expect(seen.join() === "b", "b alone", seen)
      yield* expect((yield* does("a find", b.find("key"))) === undefined, "the key to be free", "a holder")
    })),

  check("all sessions see one epoch, which does not get younger", (bench) =>
    Effect.gen(function*() {
      const a = yield* bench.join("a")
      yield* Effect.sleep(bench.lease / 4)
      const b = yield* bench.join("b")
      yield* expect(a.epoch === b.epoch && Number.isSafeInteger(a.epoch), "one epoch, an integer", [a.epoch, b.epoch])
      yield* expect(a.age >= 0 && b.age >= a.age, "ages of 0 or more, in order", [a.age, b.age])
    })),

  check(
    "an engine that has lost its memory has a greater epoch, and its old sessions are over",
    (bench) =>
      Effect.gen(function*() {
        const { does, fails, wipe } = bench
        if (wipe === undefined) return
        const a = yield* bench.join("a")
        const b = yield* bench.join("b")
        const before = yield* does("a claim", a.claim("key"))
        yield* wipe
        const why = [
          yield* fails("a renewal in the epoch before to fail", a.renew(false)),
          yield* fails("a claim in the epoch before to fail", b.claim("key"))
        ]
        yield* expect(why.every((reason) => reason !== "size" && reason !== "unreachable"), "epoch or lease", why)
        const again = yield* bench.join("a")
        yield* expect(again.epoch > a.epoch, "a greater epoch", [a.epoch, again.epoch])
        yield* expect(again.age < 10_000, "a young epoch", again.age)
        yield* expect((yield* does("a find", again.find("key"))) === undefined, "nothing to be known", "a holder")
        if (before._tag !== "Claimed") return
        const kept = yield* does("a claim again", again.claim("key", { as: before.token }))
        yield* expect(kept._tag === "Claimed" && kept.token.epoch === a.epoch, "the token of the epoch before", kept)
        const login = yield* does("a claim", again.claim("key"))
        yield* expect(login._tag === "Claimed" && login.token.epoch === again.epoch, "a token of the new epoch", login)
      })
  )
]
