/** The engine in memory keeps the contract, and engines that break it are told what they break. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import type { Backplane } from "../../src/index.ts"
import { Memory } from "../../src/internal/backplane/memory.ts"
import { BackplaneContract } from "../../src/testing/index.ts"
import { exitOf } from "./support/virtual.ts"

const subject = (change: (session: Backplane.Session) => Backplane.Session): BackplaneContract.Subject => ({
  name: "memory",
  open: Effect.sync(() => {
    const memory = new Memory()
    const engine: Backplane.Engine = {
      name: "memory",
      largest: memory.largest,
      join: (options) => Effect.map(memory.join(options), change)
    }
    return { connect: Effect.succeed(engine), wipe: Effect.sync(() => memory.wipe()) }
  })
})

describe("the engine in memory", () => {
  it.each(BackplaneContract.checks)("$name", (check) => {
    assert.strictEqual(exitOf(check.run(subject((session) => session))), undefined)
  })
})

const broken: Record<string, (session: Backplane.Session) => Backplane.Session> = {
  "a token that does not grow": (session) => ({
    ...session,
    claim: (key, options) =>
      Effect.map(
        session.claim(key, options),
        (claim) => options?.as !== undefined ? claim : { ...claim, token: { epoch: 1, number: 1 } }
      )
  }),
  "a claim that replaces any holder": (session) => ({
    ...session,
    claim: (key, options) =>
      Effect.flatMap(session.claim(key, options), (claim) =>
        claim._tag === "Claimed"
          ? Effect.succeed(claim)
          : session.claim(key, { as: claim.token, over: claim.holder.token }))
  }),
  "a release of any token": (session) => ({
    ...session,
    release: (key) =>
      Effect.flatMap(
        session.find(key),
        (holder) => holder === undefined ? Effect.void : session.release(key, holder.token)
      )
  }),
  "a lease that begins anew": (session) => ({
    ...session,
    renew: (isLeaving) => Effect.ignore(session.renew(isLeaving))
  }),
  "a leave that does nothing": (session) => ({ ...session, leave: Effect.void }),
  "an inbox that turns the order": (session) => ({
    ...session,
    take: Effect.map(session.take, (arrivals) => arrivals.toReversed() as unknown as typeof arrivals)
  }),
  "an inbox without gaps": (session) => ({
    ...session,
    take: Effect.suspend(function take(): Backplane.Session["take"] {
      return Effect.flatMap(session.take, (arrivals) => {
        const kept = arrivals.filter(({ _tag }) => _tag === "Batch")
        return kept.length === 0 ? take() : Effect.succeed(kept as unknown as typeof arrivals)
      })
    })
  }),
  "a publish that does not know of nobody": (session) => ({
    ...session,
    publish: (node, batch) => Effect.as(session.publish(node, batch), "sent" as const)
  })
}

describe("a broken engine is found", () => {
  it.each(Object.keys(broken))("%s", (name) => {
    const found = BackplaneContract.checks.flatMap((check) => {
      const error = exitOf(check.run(subject(broken[name]!)))
      return error === undefined ? [] : [check.name]
    })
    assert.notDeepEqual(found, [])
  })
})
