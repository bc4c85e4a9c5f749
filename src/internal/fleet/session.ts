/** A stay with the engine: joins, renews the lease, hears what comes, and begins again when it is over. */
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Random from "effect/Random"
import type * as Scope from "effect/Scope"
import type { Arrival } from "../backplane/engine.ts"
import { BackplaneError } from "../backplane/engine.ts"
import * as Claims from "./claims.ts"
import type { Node, Stay } from "./node.ts"
import * as Wire from "./post/wire.ts"

const hear = <Out>(node: Node<Out>, from: string, frame: Wire.Frame): Effect.Effect<void> | undefined => {
  switch (frame._tag) {
    case "Send": {
      const { id, key, payload } = frame
      const decoded = node.read(payload)
      if (decoded._tag === "Failure") {
        node.mail.post(from, { _tag: "Sent", id, told: "invalid" })
        return undefined
      }
      return Effect.map(node.deliver(key, decoded.success), (told) => {
        node.mail.post(from, { _tag: "Sent", id, told })
      })
    }
    case "Sent":
      node.lanes.told(frame.id, from, frame.told)
      return undefined
    case "Revoke":
      Claims.yieldKey(node, frame.key, frame.token)
      node.mail.post(from, { _tag: "Revoked", id: frame.id })
      return undefined
    case "Revoked": {
      const takeover = node.takeovers.get(frame.id)
      if (takeover?.node === from) Deferred.doneUnsafe(takeover.acked, Effect.void)
      return undefined
    }
    case "Broadcast": {
      const { id, payload, tag } = frame
      const decoded = node.read(payload)
      if (decoded._tag === "Failure") {
        node.mail.post(from, { _tag: "Counted", id, counts: { delivered: 0, dropped: 0, failed: 1 } })
        return undefined
      }
      return Effect.map(node.local.broadcast(decoded.success, { tag }), (counts) => {
        node.mail.post(from, { _tag: "Counted", id, counts })
      })
    }
    case "Counted":
      node.questions.answer(frame.id, from, frame.counts)
      return undefined
    case "Probe": {
      const probe = node.probes.get(frame.id)
      node.probes.delete(frame.id)
      if (probe === undefined || from !== node.name) return undefined
      node.provedAt = probe.asked.monotonic
      node.lease.extend(probe.term, probe.asked)
      return undefined
    }
  }
}

/** Hears all that comes, in order. */
const listen = <Out>(node: Node<Out>, stay: Stay): Effect.Effect<never, BackplaneError> =>
  Effect.gen(function*() {
    // one generator for all arrivals
    while (true) {
      const arrivals: ReadonlyArray<Arrival> = yield* stay.session.take
      for (const arrival of arrivals) {
        if (arrival._tag === "Gap") {
          node.gap(arrival.count, undefined)
          continue
        }
        const batch = Wire.split(arrival.bytes)
        if (batch === undefined) continue
        const { frames, from, run, sequence } = batch
        const known = node.heard.get(from)
        const next = known?.run === run ? known.next : 0
        // what a session has sent does not come after what a later one of the same node has
        if (known !== undefined && (run < known.run || sequence < next)) continue
        if (known !== undefined && sequence > next) node.gap(sequence - next, from)
        node.heard.set(from, { run, next: sequence + 1 })
        for (const frame of frames) {
          const work = hear(node, from, frame)
          if (work !== undefined) yield* work
        }
      }
    }
  })

/** Proves to this node that its inbox has delivered what was published before. */
const probe = <Out>(node: Node<Out>, term: number, asked: ReturnType<typeof node.lease.now>): void => {
  const id = node.nextId()
  node.probes.set(id, { term, asked })
  node.mail.post(node.name, { _tag: "Probe", id })
}

// how many leases long an engine may answer whose inbox brings nothing: each third of a lease this node sends to itself
const deafFor = 2

/** Renews the lease three times in its time. Fails where the engine answers, but what this node sends to itself never comes. */
const renew = <Out>(node: Node<Out>, { joinedAt }: Stay): Effect.Effect<never, BackplaneError> =>
  Effect.gen(function*() {
    while (true) {
      node.renewing.closeUnsafe()
      const asked = node.lease.now()
      const provedAt = Math.max(joinedAt.monotonic, node.provedAt)
      if (asked.monotonic - provedAt > deafFor * node.lease.millis) {
        return yield* new BackplaneError({ reason: "unreachable", cause: new Error("its inbox brings nothing") })
      }
      const term = node.lease.number
      const renewed = yield* Effect.result(node.ask((session) => session.renew(node.isLeaving)))
      if (renewed._tag === "Success") {
        probe(node, term, asked)
        yield* Effect.ignore(node.refresh(0))
      }
      node.lease.check()
      if (node.lease.millis === Infinity) return yield* Effect.never
      const share = renewed._tag === "Success" ? 3 : 10
      const pause = (node.lease.millis / share) * (0.9 + 0.1 * (yield* Random.next))
      // an engine that does not answer is not asked in a circle
      if (renewed._tag === "Failure") yield* Effect.sleep(pause)
      else yield* Effect.timeoutOption(node.renewing.await, pause)
    }
  })

const join = <Out>(node: Node<Out>): Effect.Effect<Stay, BackplaneError, Scope.Scope> =>
  Effect.suspend(() => node.engine.join({ node: node.name, lease: node.lease.millis })).pipe(
    Effect.catchDefect((cause) => Effect.fail(new BackplaneError({ reason: "unreachable", cause }))),
    Effect.timeoutOrElse({
      duration: node.patience,
      orElse: () => Effect.fail(new BackplaneError({ reason: "unreachable" }))
    }),
    Effect.map((session) => node.begin(session))
  )

/** One stay, until it is over. */
const once = <Out>(node: Node<Out>): Effect.Effect<never, BackplaneError> =>
  Effect.scoped(Effect.gen(function*() {
    const stay = yield* join(node)
    return yield* Effect.raceAllFirst([
      Deferred.await(stay.over),
      listen(node, stay),
      node.mail.carry(stay.session, node.patience),
      renew(node, stay),
      Claims.keepChecking(node),
      Claims.keepLooking(node),
      Claims.keepReleasing(node)
    ])
  }))

const longestPause = 2000

/** Stays in the fleet for as long as it runs. */
export const keepJoined = <Out>(node: Node<Out>): Effect.Effect<never> =>
  Effect.gen(function*() {
    let failures = 0
    while (true) {
      const stays = node.stays
      const exit = yield* Effect.exit(once(node))
      if (node.isLeft) return yield* Effect.never
      const error = Exit.isFailure(exit) ? Cause.squash(exit.cause) : undefined
      node.end(error instanceof BackplaneError ? error : new BackplaneError({ reason: "unreachable", cause: error }))
      node.lease.check()
      failures = node.stays === stays ? failures + 1 : 0
      if (failures === 1) yield* Effect.logWarning(`the fleet's engine (${node.engine.name}) does not answer`, error)
      const pause = Math.min(longestPause, 50 * 2 ** Math.min(failures, 10), node.patience)
      yield* Effect.sleep(pause * (0.5 + 0.5 * (yield* Random.next)))
    }
  })
