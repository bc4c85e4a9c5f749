/** Checks of the directory: who holds a key, by which token. */
import * as Effect from "effect/Effect"
import { type Claim, isNewer } from "../../../Backplane.ts"
import { type Check, check, expect } from "./steps.ts"

/** A token of an epoch before all others. */
const early = { epoch: 0, number: 7 }

export const claims: ReadonlyArray<Check> = [
  check("a claim makes the node the holder, and every node finds it", ({ does, join }) =>
    Effect.gen(function*() {
      const a = yield* join("a")
      const b = yield* join("b")
      const claim = yield* does("a claim", a.claim("key"))
      yield* expect(claim._tag === "Claimed", "a claim", claim)
      const found = yield* does("a find", b.find("key"))
      yield* expect(found?.node === "a", "b to find the key at a", found)
      yield* expect(
        (yield* does("a find", b.find("other"))) === undefined,
        "no holder of a key that was not claimed",
        "one"
      )
    })),

  check(
    "a key of another node is taken, and the claim gets a greater token all the same",
    ({ does, join }) =>
      Effect.gen(function*() {
        const a = yield* join("a")
        const b = yield* join("b")
        const first = yield* does("a claim", a.claim("key"))
        const second = yield* does("a claim", b.claim("key"))
        if (first._tag !== "Claimed" || second._tag !== "Taken") {
          return yield* expect(false, "the second claim to be taken", [first, second])
        }
        yield* expect(second.holder.node === "a", "a as the holder", second)
        yield* expect(second.holder.token.number === first.token.number, "the token of a", second)
        yield* expect(isNewer(second.token, first.token), "a greater token", [first, second])
        const found = yield* does("a find", b.find("key"))
        yield* expect(found?.node === "a", "a to hold the key still", found)
        const own = yield* does("a claim", a.claim("key"))
        yield* expect(own._tag === "Claimed" && isNewer(own.token, second.token), "a to claim its own key anew", own)
      })
  ),

  check(
    "a holder is replaced where the claim names its token, and has a greater one",
    ({ does, join }) =>
      Effect.gen(function*() {
        const a = yield* join("a")
        const b = yield* join("b")
        const c = yield* join("c")
        const first = yield* does("a claim", a.claim("key"))
        const second = yield* does("a claim", b.claim("key"))
        const third = yield* does("a claim", c.claim("key"))
        const other = { ...second.token, number: second.token.number + 1000 }
        const wrong = yield* does("a claim over another token", b.claim("key", { as: second.token, over: other }))
        yield* expect(wrong._tag === "Taken", "it to be taken still", wrong)
        const right = yield* does("a claim over it", b.claim("key", { as: second.token, over: first.token }))
        const isKept = right._tag === "Claimed" && right.token.number === second.token.number
        yield* expect(isKept, "a claim with its token", right)
        const found = yield* does("a find", a.find("key"))
        yield* expect(found?.node === "b", "b to hold the key", found)
        const late = yield* does("a claim over the one before", c.claim("key", { as: third.token, over: first.token }))
        yield* expect(late._tag === "Taken" && late.holder.node === "b", "it to be taken by b", late)
        const small = yield* does("a claim that is older", a.claim("key", { as: first.token, over: second.token }))
        yield* expect(small._tag === "Taken", "an older claim not to replace a newer one", small)
      })
  ),

  check(
    "of claims at once each has its own token, and one node has the key",
    ({ does, join }) =>
      Effect.gen(function*() {
        const sessions = [yield* join("a"), yield* join("b"), yield* join("c")]
        const claims = yield* Effect.forEach(
          Array.from({ length: 30 }, (_, i) => sessions[i % 3]!),
          (session) => does("a claim", session.claim("key")),
          { concurrency: "unbounded" }
        )
        const numbers = new Set(claims.map(({ token }) => token.number))
        yield* expect(numbers.size === 30, "30 different tokens", claims)
        const found = yield* does("a find", sessions[0]!.find("key"))
        const claimers = new Set<unknown>(claims.flatMap((claim, i) => claim._tag === "Claimed" ? ["abc"[i % 3]] : []))
        yield* expect(claimers.size === 1 && claimers.has(found?.node), "one node to have it", [found, claims])
      })
  ),

  check("a key is given back with its own token alone", ({ does, join }) =>
    Effect.gen(function*() {
      const a = yield* join("a")
      const b = yield* join("b")
      const first = yield* does("a claim", a.claim("key"))
      const second = yield* does("a claim", a.claim("key"))
      yield* does("a release", a.release("key", first.token))
      yield* does("a release", b.release("key", second.token))
      const kept = yield* does("a find", b.find("key"))
      yield* expect(kept?.token.number === second.token.number, "the key to be kept", kept)
      yield* does("a release", a.release("key", second.token))
      yield* expect((yield* does("a find", a.find("key"))) === undefined, "the key to be free", "a holder")
      yield* does("a release of what is free", a.release("key", second.token))
    })),

  check("a claim made again keeps its token, and yields to a greater one", ({ does, join }) =>
    Effect.gen(function*() {
      const a = yield* join("a")
      const b = yield* join("b")
      const again = yield* does("a claim again", a.claim("key", { as: early }))
      const isKept = again._tag === "Claimed" && again.token.number === early.number &&
        again.token.epoch === early.epoch
      yield* expect(isKept, "the token that it had", again)
      const repeated = yield* does("a claim again", a.claim("key", { as: early }))
      yield* expect(repeated._tag === "Claimed", "the same claim to be made twice", repeated)
      const login = yield* does("a claim", b.claim("key"))
      yield* expect(isNewer(login.token, early), "a new login to have a greater token", login)
      yield* does("a claim over it", b.claim("key", { as: login.token, over: early }))
      const late = yield* does("a claim again", a.claim("key", { as: early }))
      yield* expect(late._tag === "Taken" && late.holder.node === "b", "it to be taken by b", late)
    })),

  check(
    "a claim made again yields to a greater one whose lease has ended, and a new login does not",
    ({ does, join, lease }) =>
      Effect.gen(function*() {
        const a = yield* join("a")
        const b = yield* join("b")
        const newer = yield* does("a claim", b.claim("key"))
        for (let i = 0; i < 6; i++) {
          yield* Effect.sleep(lease / 3)
          yield* does("a renewal", a.renew(false))
        }
        yield* does("the nodes", a.nodes)
        const again = yield* does("a claim again", a.claim("key", { as: early }))
        const isTold = again._tag === "Taken" && again.holder.node === "b" &&
          again.holder.token.number === newer.token.number
        yield* expect(isTold, "it to be taken by b, two leases after b's last word", again)
        yield* expect((yield* does("a find", a.find("key"))) === undefined, "no node to be found", "b")
        const login = yield* does("a claim", a.claim("key"))
        yield* expect(login._tag === "Claimed" && isNewer(login.token, newer.token), "a new login to get it", login)
      })
  ),

  check("a holder that asks again learns that a newer login wants its key", ({ does, join }) =>
    Effect.gen(function*() {
      const a = yield* join("a")
      const b = yield* join("b")
      const first = yield* does("a claim", a.claim("key"))
      const second = yield* does("a claim", b.claim("key"))
      const again = yield* does("a claim again", a.claim("key", { as: first.token }))
      const isTold = again._tag === "Taken" && again.holder.node === "b" &&
        again.holder.token.number === second.token.number
      yield* expect(isTold, "it to be taken by b, with the token of b's login", again)
      const found = yield* does("a find", b.find("key"))
      yield* expect(found?.node === "a", "a to hold the key still", found)
      const newer = yield* does("a new login at a", a.claim("key"))
      const kept = yield* does("a claim again", a.claim("key", { as: newer.token }))
      yield* expect(kept._tag === "Claimed", "a newer login of a to keep the key", kept)
    })),

  check(
    "who wanted a key that was released is known to an older claim that is made again",
    ({ does, join }) =>
      Effect.gen(function*() {
        const a = yield* join("a")
        const b = yield* join("b")
        const oldest = yield* does("a claim", a.claim("key"))
        const older = yield* does("a newer claim", a.claim("key"))
        const wanted = yield* does("a claim", b.claim("key"))
        yield* does("a release", a.release("key", older.token))
        const again = yield* does("a claim again", a.claim("key", { as: oldest.token }))
        const isTold = again._tag === "Taken" && again.holder.node === "b" &&
          again.holder.token.number === wanted.token.number
        yield* expect(isTold, "it to be taken by b, with the token of b's login", again)
        yield* expect((yield* does("a find", a.find("key"))) === undefined, "no holder", "one")
        const taken = yield* does("a claim", b.claim("key", { as: wanted.token, over: older.token }))
        yield* expect(taken._tag === "Claimed", "b to get it", taken)
      })
  ),

  check(
    "the newest login of a key that was given back is known to an older claim that is made again",
    ({ does, join }) =>
      Effect.gen(function*() {
        const a = yield* join("a")
        const b = yield* join("b")
        const c = yield* join("c")
        const older = yield* does("a claim", a.claim("key"))
        yield* does("a release", a.release("key", older.token))
        const newer = yield* does("a claim", b.claim("key"))
        yield* does("a release", b.release("key", newer.token))
        const isToldOf = (claim: Claim) =>
          claim._tag === "Taken" && claim.holder.node === "b" && claim.holder.token.number === newer.token.number
        for (const as of [older.token, early]) {
          const again = yield* does("a claim again", a.claim("key", { as }))
          yield* expect(isToldOf(again), "it to be taken by b, with the token of b's login", again)
        }
        yield* expect((yield* does("a find", c.find("key"))) === undefined, "no holder", "one")
        const kept = yield* does("a claim again", b.claim("key", { as: newer.token }))
        yield* expect(kept._tag === "Claimed", "the newest login to get the key again", kept)
        yield* does("b leaves", b.leave)
        const last = yield* does("a claim again", a.claim("key", { as: older.token }))
        yield* expect(isToldOf(last), "it to be taken by b, which has left", last)
        yield* expect((yield* does("a find", c.find("key"))) === undefined, "no holder", "one")
        const newest = yield* does("a claim", c.claim("key"))
        yield* expect(newest._tag === "Claimed", "a new login to get it", newest)
      })
  ),

  check(
    "a claim of a key only if it is free leaves no mark at the key of a holder",
    ({ does, join }) =>
      Effect.gen(function*() {
        const a = yield* join("a")
        const b = yield* join("b")
        const first = yield* does("a claim", a.claim("key", { onlyIfFree: true }))
        yield* expect(first._tag === "Claimed", "a to get a free key", first)
        const second = yield* does("a claim", b.claim("key", { onlyIfFree: true }))
        yield* expect(second._tag === "Taken" && second.holder.node === "a", "it to be taken by a", second)
        const again = yield* does("a claim again", a.claim("key", { as: first.token }))
        yield* expect(again._tag === "Claimed", "a to keep the key", again)
        yield* does("a release", a.release("key", first.token))
        const third = yield* does("a claim", b.claim("key", { onlyIfFree: true }))
        yield* expect(third._tag === "Claimed" && isNewer(third.token, first.token), "b to get a free key", third)
      })
  ),

  check("keys may be any text", ({ does, join }) =>
    Effect.gen(function*() {
      const a = yield* join("a")
      for (const key of ["", " ", "a.b:c*>d/e", "{x}", "ü 漢 \u{1F600}", "\n\u0000", "x".repeat(500)]) {
        yield* does(`a claim of ${JSON.stringify(key)}`, a.claim(key))
        const found = yield* does("a find", a.find(key))
        yield* expect(found?.node === "a", `a holder of ${JSON.stringify(key)}`, found)
      }
    }))
]
