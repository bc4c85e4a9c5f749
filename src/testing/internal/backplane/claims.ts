/** Checks of the directory: who holds a key, by which token. */
import * as Effect from "effect/Effect"
import { isNewer } from "../../../Backplane.ts"
import { type Check, check, expect } from "./steps.ts"

/** A token of an epoch before all others. */
const early = { epoch: 0, number: 7 }

export const claims: ReadonlyArray<Check> = [
  check("a claim makes the node the holder, and every node finds it", ({ does, join }) =>
    Effect.gen(function*() {
      const a = yield* join("a")
      const b = yield* join("b")
      const claim = yield* does("a claim", a.claim("key"))
      yield* expect(claim._tag === "Claimed" && claim.previous === undefined, "a claim without a previous one", claim)
      const found = yield* does("a find", b.find("key"))
      yield* expect(found?.node === "a", "b to find the key at a", found)
      yield* expect((yield* does("a find", b.find("other"))) === undefined, "no holder of a key nobody has", "one")
    })),

  check(
    "a later claim has a greater token, and is told which one it replaced",
    ({ does, join }) =>
      Effect.gen(function*() {
        const a = yield* join("a")
        const b = yield* join("b")
        const first = yield* does("a claim", a.claim("key"))
        const second = yield* does("a claim", b.claim("key"))
        const third = yield* does("a claim", b.claim("key"))
        if (first._tag !== "Claimed" || second._tag !== "Claimed" || third._tag !== "Claimed") {
          return yield* expect(false, "three claims", [first, second, third])
        }
        yield* expect(second.previous?.node === "a", "the previous holder to be a", second)
        yield* expect(isNewer(second.token, first.token), "a greater token", [first, second])
        yield* expect(third.previous?.node === "b", "the previous holder to be the same node", third)
        yield* expect(isNewer(third.token, second.token), "a greater token", [second, third])
      })
  ),

  check(
    "of claims at once each has its own token, and the greatest one holds",
    ({ does, join }) =>
      Effect.gen(function*() {
        const sessions = [yield* join("a"), yield* join("b"), yield* join("c")]
        const claims = yield* Effect.forEach(
          Array.from({ length: 30 }, (_, i) => sessions[i % 3]!),
          (session) => does("a claim", session.claim("key")),
          { concurrency: "unbounded" }
        )
        const tokens = claims.flatMap((claim) => claim._tag === "Claimed" ? [claim.token] : [])
        const numbers = new Set(tokens.map(({ number }) => number))
        yield* expect(numbers.size === 30, "30 different tokens", tokens)
        const firsts = claims.filter((claim) => claim._tag === "Claimed" && claim.previous === undefined)
        yield* expect(firsts.length === 1, "one claim without a previous one", firsts)
        const found = yield* does("a find", sessions[0]!.find("key"))
        const greatest = Math.max(...numbers)
        yield* expect(found?.token.number === greatest, `the holder with ${greatest}`, found)
      })
  ),

  check(
    "a claim only if the key is free is refused for that of another node",
    ({ does, join }) =>
      Effect.gen(function*() {
        const a = yield* join("a")
        const b = yield* join("b")
        yield* does("a claim", a.claim("key", { isOnlyIfFree: true }))
        const refused = yield* does("a claim", b.claim("key", { isOnlyIfFree: true }))
        yield* expect(refused._tag === "Taken" && refused.holder.node === "a", "it to be taken by a", refused)
        const found = yield* does("a find", b.find("key"))
        yield* expect(found?.node === "a", "a to hold the key still", found)
        const own = yield* does("a claim", a.claim("key", { isOnlyIfFree: true }))
        yield* expect(own._tag === "Claimed", "a to claim its own key", own)
      })
  ),

  check("a key is given back with its own token alone", ({ does, join }) =>
    Effect.gen(function*() {
      const a = yield* join("a")
      const b = yield* join("b")
      const first = yield* does("a claim", a.claim("key"))
      const second = yield* does("a claim", a.claim("key"))
      if (first._tag !== "Claimed" || second._tag !== "Claimed") return yield* expect(false, "two claims", first)
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
      const isGreater = login._tag === "Claimed" && isNewer(login.token, early) && login.previous?.node === "a"
      yield* expect(isGreater, "a new login to have a greater token, and a as the previous holder", login)
      const late = yield* does("a claim again", a.claim("key", { as: early }))
      yield* expect(late._tag === "Taken" && late.holder.node === "b", "it to be taken by b", late)
      const other = yield* does("a claim again", a.claim("other", { as: early }))
      const better = yield* does("a claim again", b.claim("other", { as: { epoch: 0, number: 8 } }))
      const isReplaced = other._tag === "Claimed" && better._tag === "Claimed" && better.previous?.node === "a"
      yield* expect(isReplaced, "a greater token to take the place of a smaller one", better)
    })),

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
