/**
 * Messages to keys of other nodes, in order for each key.
 *
 * A lane remembers which node holds its key. What that node did not take, because the key has moved, waits until all that is
 * under way there is answered; then the directory is asked again, and all goes on in the order in which it was sent.
 */
import * as Effect from "effect/Effect"
import type { Holder } from "../../backplane/engine.ts"
import type { Deadlines } from "./deadlines.ts"
import type { Mail, Watcher } from "./mail.ts"
import * as Wire from "./wire.ts"

/** What became of a message for a key; see `Fleet.Outcome`. */
export type Outcome = "accepted" | "full" | "offline" | "unknown" | "cut"

interface Message<out Out> {
  readonly id: number
  readonly message: Out
  readonly payload: Wire.Payload
  readonly settle: (outcome: Outcome) => void
  isSettled: boolean
  /** Whether it is posted, and neither settled nor returned. */
  isUnderWay: boolean
  /** The node that may have it. */
  sentTo: string | undefined
  /** Whether a node has refused it, or a try has failed for another reason than the network. */
  isRefused: boolean
}

interface Lane<Out> {
  readonly key: string
  holder: Holder | undefined
  /** What is posted, and not answered. */
  underWay: number
  waiting: Array<Message<Out>>
  returned: Array<Message<Out>>
  isAsking: boolean
  /** How often in a row it was asked for in vain. */
  tries: number
  /** The last message that was accepted: none that is older is sent any more. */
  accepted: number
}

/** What lanes need of their node. */
export interface Owner<in Out> {
  readonly name: string
  readonly mail: Mail
  readonly deadlines: Deadlines
  readonly isJoined: () => boolean
  readonly nextId: () => number
  /** Asks the directory; fails where the engine does not answer. */
  readonly find: (key: string) => Effect.Effect<Holder | undefined, unknown>
  /** Delivers to a connection of this node. */
  readonly deliver: (key: string, message: Out) => Effect.Effect<Wire.Told>
  /** Runs for as long as the session. */
  readonly fork: (name: string, effect: Effect.Effect<void>) => void
}

const mostLanes = 10_000
const mostDelay = 250

export class Lanes<in out Out> {
  private readonly owner: Owner<Out>
  private readonly lanes = new Map<string, Lane<Out>>()
  private readonly messages = new Map<number, { readonly lane: Lane<Out>; readonly message: Message<Out> }>()

  constructor(owner: Owner<Out>) {
    this.owner = owner
  }

  /** Whether messages for a key are on their way: what comes now must not overtake them. */
  isBusy(key: string): boolean {
    const lane = this.lanes.get(key)
    return lane !== undefined && !isIdle(lane)
  }

  /** How many messages have no outcome yet. */
  get size(): number {
    return this.messages.size
  }

  private laneOf(key: string): Lane<Out> {
    const known = this.lanes.get(key)
    if (known !== undefined) return known
    if (this.lanes.size >= mostLanes) {
      for (const [oldest, lane] of this.lanes) {
        if (!isIdle(lane)) continue
        this.lanes.delete(oldest)
        break
      }
    }
    const lane: Lane<Out> = {
      key,
      holder: undefined,
      underWay: 0,
      waiting: [],
      returned: [],
      isAsking: false,
      tries: 0,
      accepted: 0
    }
    this.lanes.set(key, lane)
    return lane
  }

  /** Sends a message. Its outcome is told once, at the latest at its deadline. */
  send(key: string, content: Out, payload: Wire.Payload, told: (outcome: Outcome) => void): () => void {
    const lane = this.laneOf(key)
    const id = this.owner.nextId()
    const message: Message<Out> = {
      id,
      message: content,
      payload,
      isSettled: false,
      isUnderWay: false,
      sentTo: undefined,
      isRefused: false,
      settle: (outcome) => {
        if (message.isSettled) return
        message.isSettled = true
        this.messages.delete(id)
        this.owner.deadlines.remove(id)
        told(outcome)
        this.landed(lane, message)
      }
    }
    this.messages.set(id, { lane, message })
    this.owner.deadlines.add(id, () => {
      const { isRefused, sentTo } = message
      message.settle(sentTo !== undefined ? "unknown" : isRefused ? "offline" : "cut")
    })
    if (lane.holder !== undefined && lane.returned.length === 0) this.post(lane, lane.holder, message)
    else {
      lane.waiting.push(message)
      this.ask(lane)
    }
    return () => message.settle("cut")
  }

  private post(lane: Lane<Out>, { node }: Holder, message: Message<Out>): void {
    const { id, payload } = message
    const bytes = Wire.encode({ _tag: "Send", id, key: lane.key, payload })
    const watcher: Watcher = (passing) => {
      if (passing === "leaving") {
        if (message.isSettled) return false
        // an older one has come back meanwhile, and goes ahead of it
        if (lane.returned.length > 0) {
          this.giveBack(lane, message)
          return false
        }
        message.sentTo = node
      } else if (passing === "nobody") this.returned(id)
      else if (passing === "failed") message.settle("unknown")
      else if (passing === "dropped") message.settle("cut")
    }
    message.isUnderWay = true
    lane.underWay++
    if (!this.owner.mail.postBytes(node, bytes, watcher, false)) message.settle("full")
  }

  /** A message is not under way any more. The last one lets those go on that wait, the returned ones first. */
  private landed(lane: Lane<Out>, message: Message<Out>): void {
    if (!message.isUnderWay) return
    message.isUnderWay = false
    if (--lane.underWay > 0) return
    const again: Array<Message<Out>> = []
    for (const message of lane.returned.splice(0).toSorted((a, b) => a.id - b.id)) {
      if (message.id > lane.accepted) again.push(message)
      // its key came to the node between it and a later one
      else message.settle("offline")
    }
    lane.waiting = [...again, ...lane.waiting]
    if (lane.waiting.length > 0) this.ask(lane)
  }

  /** A node answers. */
  told(id: number, from: string, told: Wire.Told): void {
    if (told === "moved") return this.returned(id)
    const found = this.messages.get(id)
    if (found === undefined || found.message.sentTo !== from) return
    const { lane, message } = found
    lane.tries = 0
    if (told === "accepted") lane.accepted = Math.max(lane.accepted, id)
    message.settle(told === "invalid" ? "offline" : told)
  }

  private returned(id: number): void {
    const found = this.messages.get(id)
    if (found === undefined || found.message.sentTo === undefined) return
    const { lane, message } = found
    message.sentTo = undefined
    message.isRefused = true
    lane.holder = undefined
    this.giveBack(lane, message)
  }

  private giveBack(lane: Lane<Out>, message: Message<Out>): void {
    lane.returned.push(message)
    this.landed(lane, message)
  }

  /** Asks where the key is, and sends on what waits for it. */
  private ask(lane: Lane<Out>): void {
    if (lane.isAsking || lane.underWay > 0 || !this.owner.isJoined()) return
    lane.isAsking = true
    this.owner.fork(
      "finding a key",
      Effect.onExit(this.find(lane), () =>
        Effect.sync(() => {
          lane.isAsking = false
          if (lane.waiting.length > 0) this.ask(lane)
        }))
    )
  }

  private find(lane: Lane<Out>): Effect.Effect<void> {
    return Effect.gen({ self: this }, function*() {
      while (true) {
        lane.waiting = lane.waiting.filter(({ isSettled }) => !isSettled)
        if (lane.waiting.length === 0) return
        if (lane.tries > 0) yield* Effect.sleep(Math.min(mostDelay, 5 * 2 ** Math.min(lane.tries, 10)))
        lane.tries++
        // what is sent while the engine is asked may be for a login that is newer than the answer
        const asked = lane.waiting.length
        const found = yield* Effect.result(this.owner.find(lane.key))
        if (found._tag === "Failure") return this.settle(lane, "cut", asked)
        const holder = found.success
        if (holder === undefined) return this.settle(lane, "offline", asked)
        if (holder.node !== this.owner.name) {
          lane.holder = holder
          this.owner.mail.together(() => {
            for (const message of lane.waiting.splice(0)) if (!message.isSettled) this.post(lane, holder, message)
          })
          return
        }
        yield* this.deliver(lane)
      }
    })
  }

  /** The key is here. What cannot be delivered yet is tried again. */
  private deliver(lane: Lane<Out>): Effect.Effect<void> {
    return Effect.gen({ self: this }, function*() {
      while (lane.waiting.length > 0) {
        const message = lane.waiting[0]!
        if (!message.isSettled) {
          const told = yield* this.owner.deliver(lane.key, message.message)
          if (told === "moved") {
            message.isRefused = true
            return
          }
          message.settle(told === "invalid" ? "offline" : told)
        }
        lane.waiting.shift()
        lane.tries = 0
      }
    })
  }

  /** Settles the first ones of a lane. */
  private settle(lane: Lane<Out>, outcome: Outcome, count: number): void {
    lane.tries = 0
    for (const message of lane.waiting.splice(0, count)) message.settle(outcome)
  }

  /** A node is gone: what it may have got is not known. */
  gone(node: string): void {
    for (const lane of this.lanes.values()) if (lane.holder?.node === node) lane.holder = undefined
    for (const { message } of Array.from(this.messages.values())) if (message.sentTo === node) message.settle("unknown")
  }

  /** The session is over: whatever left may have arrived, and nothing else has. */
  cut(): void {
    const messages = Array.from(this.messages.values())
    this.lanes.clear()
    for (const { message } of messages) message.settle(message.sentTo === undefined ? "cut" : "unknown")
  }
}

const isIdle = (lane: Lane<unknown>): boolean =>
  lane.underWay === 0 && lane.waiting.length === 0 && lane.returned.length === 0 && !lane.isAsking
