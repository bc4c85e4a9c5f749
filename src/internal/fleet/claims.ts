/** Claims of keys: by a new login, again after a doubt, and given back. */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as ConnectionError from "../../ConnectionError.ts"
import { BackplaneError, type Claim, type ClaimOptions, type Token } from "../backplane/engine.ts"
import type { Held } from "./keys.ts"
import type { Node } from "./node.ts"

/** A login that was claimed: what to hold. */
export interface Login {
  readonly token: Token
  readonly term: number
  readonly session: number
}

const refused = () => ConnectionError.make(new ConnectionError.Refused({ limit: "fleet" }))

/**
 * Tells a node that a key was taken from it, and waits until that node cannot serve it any more: it says so, or is gone, or
 * has been told so long ago that its lease has lapsed.
 */
const takeOver = <Out>(node: Node<Out>, from: string, key: string, token: Token): Effect.Effect<void, BackplaneError> =>
  Effect.suspend(() => {
    const id = node.nextId()
    const acked = Deferred.makeUnsafe<void>()
    const published = Deferred.makeUnsafe<void, BackplaneError>()
    node.takeovers.set(id, { node: from, acked })
    node.mail.post(from, { _tag: "Revoke", id, key, token }, (passing) => {
      if (passing === "leaving") return
      const isOut = passing === "sent" || passing === "nobody"
      Deferred.doneUnsafe(published, isOut ? Effect.void : Effect.fail(new BackplaneError({ reason: "unreachable" })))
    })
    const lapsed = Effect.andThen(Deferred.await(published), Effect.sleep(node.lease.millis))
    node.looking.openUnsafe()
    return Effect.raceFirst(Deferred.await(acked), lapsed).pipe(
      Effect.ensuring(Effect.sync(() => node.takeovers.delete(id)))
    )
  })

/** Looks who lives while keys are taken from other nodes, for as long as the session lasts: all takeovers from a node that is gone end. */
export const keepLooking = <Out>(node: Node<Out>): Effect.Effect<never> =>
  Effect.gen(function*() {
    const tenth = node.lease.millis / 10
    while (true) {
      yield* node.looking.await
      node.looking.closeUnsafe()
      while (node.takeovers.size > 0) {
        yield* Effect.sleep(tenth)
        yield* Effect.ignore(node.refresh(tenth))
      }
    }
  })

/**
 * The directory names this node by a claim whose login is gone. A connection that was served all the time since it was claimed has the
 * key by this claim then; otherwise another node may have had a newer login than that connection meanwhile, and it ends.
 */
const inherit = <Out>(node: Node<Out>, held: Held, token: Token): void => {
  const { key } = held
  if (held.token === undefined || node.lease.serves(held.term)) held.token = token
  else {
    yieldKey(node, key, token)
    release(node, key, token)
  }
}

/** Gives a key back, unless a connection of this node has it. */
const abandon = <Out>(node: Node<Out>, key: string, token: Token): void => {
  const held = node.keys.held.get(key)
  if (held === undefined) release(node, key, token)
  else if (node.keys.isNewer(token, held.token)) inherit(node, held, token)
}

/** Gives a key back as soon as the engine can be asked. An older claim may have been done after a newer one was given back. */
export const release = <Out>(node: Node<Out>, key: string, token: Token): void => {
  node.releases.add({ key, token })
  node.releasing.openUnsafe()
}

/** This node may hold a key of which it does not know: it asks for the holder as soon as the engine can be asked. */
const unsettle = <Out>(node: Node<Out>, key: string): void => {
  node.unsettled.add(key)
  node.releasing.openUnsafe()
}

const always = (): boolean => true

const unwanted = new BackplaneError({ reason: "lease" })

/** Asks for a claim in its turn, where it is still wanted then. */
const ask = <Out>(
  node: Node<Out>,
  key: string,
  options: ClaimOptions,
  isWanted: () => boolean
): Effect.Effect<Claim, BackplaneError> => {
  const asked = node.ask((session) => session.claim(key, options))
  return node.claiming.withPermit(Effect.suspend(() => isWanted() ? asked : Effect.fail(unwanted)))
}

/** How a login claims that has no token yet. */
const asNew = <Out>(node: Node<Out>): ClaimOptions => ({ onlyIfFree: node.isOnlyIfFree })

/** Claims a key until this node holds it, with this token, or a newer login does. */
const claimUntil = <Out>(
  node: Node<Out>,
  key: string,
  options: ClaimOptions,
  isWanted: () => boolean = always
): Effect.Effect<Claim, BackplaneError> =>
  Effect.flatMap(ask(node, key, options, isWanted), (claim) => {
    if (claim._tag === "Claimed") return Effect.succeed(claim)
    const { holder, token } = claim
    const isFinal = holder.node === node.name || options.onlyIfFree === true
    if (isFinal || node.keys.isNewer(holder.token, token)) return Effect.succeed(claim)
    const { epoch } = node
    const again = Effect.suspend(() => {
      if (node.epoch === epoch) return claimUntil(node, key, { as: token, over: holder.token })
      // an engine that was empty does not tell the holder, which may have claimed again, that its key is wanted
      return Effect.fail(new BackplaneError({ reason: "unreachable" }))
    })
    return Effect.andThen(takeOver(node, holder.node, key, token), again)
  })

const claimNew = <Out>(
  node: Node<Out>,
  key: string,
  isWanted: () => boolean
): Effect.Effect<Login, ConnectionError.ConnectionError> =>
  Effect.gen(function*() {
    if (node.stay === undefined) yield* node.joined.await
    while (node.heldBack > 0) yield* Effect.sleep(node.heldBack)
    const session = node.stays
    const term = node.lease.number
    const asked = yield* Effect.result(claimUntil(node, key, asNew(node), isWanted))
    if (asked._tag === "Failure") {
      // it may have been done all the same
      if (asked.failure.reason === "unreachable") unsettle(node, key)
      return yield* refused()
    }
    const claim = asked.success
    if (claim._tag === "Claimed") return { token: claim.token, term, session }
    return yield* ConnectionError.make(
      node.isOnlyIfFree ? new ConnectionError.DuplicateKey({ key }) : new ConnectionError.Superseded({ key })
    )
  })

/**
 * Claims a key for a new login. A caller that is interrupted leaves the claim to end by itself: then it is given back.
 * The key counts as coming until `settled` is called.
 */
export const login = <Out>(node: Node<Out>, key: string): Effect.Effect<Login, ConnectionError.ConnectionError> =>
  Effect.callback<Login, ConnectionError.ConnectionError>((resume) => {
    let isWanted = true
    node.keys.begin(key)
    let result: Effect.Effect<Login, ConnectionError.ConnectionError> | undefined
    const claimed = Effect.matchEffect(claimNew(node, key, () => isWanted), {
      onFailure: (error) => Effect.sync(() => void (result = Effect.fail(error))),
      onSuccess: (login) =>
        Effect.sync(() => {
          if (isWanted) result = Effect.succeed(login)
          else abandon(node, key, login.token)
        })
    })
    const over = Effect.onExit(claimed, () =>
      Effect.sync(() => {
        node.keys.end(key)
        if (isWanted) resume(result ?? refused())
      }))
    node.claims.run("claiming a key", over)
    return Effect.sync(() => {
      isWanted = false
    })
  })

/** Makes a connection the holder of its key; false where a newer login is known, or the session of its claim is over. */
export const hold = <Out>(node: Node<Out>, held: Held): boolean => {
  const { key, token } = held
  if (token !== undefined && (held.session !== node.stay?.number || node.keys.isLate(key, token))) {
    abandon(node, key, token)
    return false
  }
  node.keys.held.set(key, held)
  return true
}

/** A connection has ended, or is not registered any more. */
export const letGo = <Out>(node: Node<Out>, held: Held): void => {
  if (node.keys.letGo(held) && held.token !== undefined) release(node, held.key, held.token)
}

/** Another node claims a key for a newer login: this one serves it no more. */
export const yieldKey = <Out>(node: Node<Out>, key: string, token: Token): void => {
  const given = node.keys.revoke(key, token)
  if (given !== undefined) release(node, key, given)
}

// ---------------------------------------------------------------------------------------------------------------------
// again
// ---------------------------------------------------------------------------------------------------------------------

/** Whether the directory has said that this connection has its key, since the last doubt. */
export const isConfirmed = <Out>(node: Node<Out>, held: Held): boolean =>
  held.term === node.lease.number && held.session === node.stay?.number

const claimAgain = <Out>(node: Node<Out>, held: Held): Effect.Effect<void, BackplaneError> =>
  Effect.gen(function*() {
    const { key, token } = held
    const term = node.lease.number
    const session = node.stays
    if (!node.guards.claimsAgain) {
      held.term = term
      held.session = session
      return
    }
    if (token === undefined && node.heldBack > 0) return
    const options = token === undefined ? asNew(node) : { as: token }
    const claim = yield* Effect.tapError(claimUntil(node, key, options), ({ reason }) =>
      Effect.sync(() => {
        // it may have been done all the same, for a connection that has ended since
        if (reason === "unreachable" && node.keys.held.get(key) !== held) unsettle(node, key)
      }))
    if (node.keys.held.get(key) !== held) {
      if (claim._tag === "Claimed") abandon(node, key, claim.token)
      return
    }
    if (claim._tag === "Taken") {
      const { holder } = claim
      if (holder.node !== node.name) return yieldKey(node, key, holder.token)
      // a login of this node is under way: it settles this
      if (node.keys.isComing(key)) return
      inherit(node, held, holder.token)
      // another node may want it since: what this node has claimed is claimed again, and told so
      if (node.keys.held.get(key) === held) yield* claimAgain(node, held)
      return
    }
    held.token = claim.token
    // what was served all the time is known to be the newest one, and otherwise others may not have claimed again yet
    if (!node.lease.serves(held.term) && node.heldBack > 0) return
    if (node.lease.number !== term || node.stay?.number !== session) return
    held.term = term
    held.session = session
  })

// so many keys at once: an engine that is back is not asked for all of them in one moment
const together = 32

/** Claims keys again that are in doubt, for as long as the session lasts. */
export const keepChecking = <Out>(node: Node<Out>): Effect.Effect<never> =>
  Effect.gen(function*() {
    while (true) {
      yield* node.checking.await
      node.checking.closeUnsafe()
      const doubtful = Array.from(node.keys.held.values()).filter((held) => !isConfirmed(node, held))
      yield* Effect.forEach(doubtful, (held) => Effect.ignore(claimAgain(node, held)), {
        concurrency: together,
        discard: true
      })
      if (Array.from(node.keys.held.values()).every((held) => isConfirmed(node, held))) continue
      yield* Effect.sleep(Math.min(node.patience / 4, Math.max(50, node.heldBack)))
      node.checking.openUnsafe()
    }
  })

/** A claim whose answer did not come may have been done: then the key is given back. */
const settle = <Out>(node: Node<Out>, key: string): Effect.Effect<void, BackplaneError> =>
  Effect.map(node.find(key), (holder) => {
    // it is asked again when the logins under way have ended: they may leave it as it is
    if (node.keys.isComing(key)) return
    node.unsettled.delete(key)
    if (holder?.node === node.name) abandon(node, key, holder.token)
  })

/** Gives keys back for as long as the session lasts. */
export const keepReleasing = <Out>(node: Node<Out>): Effect.Effect<never> =>
  Effect.gen(function*() {
    while (true) {
      yield* node.releasing.await
      node.releasing.closeUnsafe()
      yield* Effect.forEach(Array.from(node.unsettled), (key) => Effect.ignore(settle(node, key)), {
        concurrency: together,
        discard: true
      })
      yield* Effect.forEach(Array.from(node.releases), (release) =>
        Effect.ignore(Effect.map(
          node.ask((session) => session.release(release.key, release.token)),
          () => node.releases.delete(release)
        )), { concurrency: together, discard: true })
      if (node.releases.size + node.unsettled.size === 0) continue
      yield* Effect.sleep(node.patience / 2)
      node.releasing.openUnsafe()
    }
  })
