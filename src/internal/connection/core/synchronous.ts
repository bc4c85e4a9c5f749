/**
 * What is done before anybody could wait for it.
 *
 * A generator asks each effect that it gets with `yield*` for an iterator. One that has ended already is not seen by the
 * loop of the runtime, which would cost as much as everything else that is done for a small message (0.5 of 1.2 us).
 */
import * as Effect from "effect/Effect"
import * as Effectable from "effect/Effectable"
import type { ConnectionError } from "../../../ConnectionError.ts"

/** An iterator that has ended, with what it returned. */
export class Done<A> implements Effect.EffectIterator<Effect.Effect<A>> {
  readonly done = true
  readonly value: A

  constructor(value: A) {
    this.value = value
  }

  next(): IteratorReturnResult<A> {
    return this
  }
}

const done = new Done<void>(undefined)

/** Who sends. */
export interface Sender<in Out> {
  /** How many messages were taken, and not dropped. */
  readonly kept: number
  /** What `send` does. Must not throw. */
  readonly sendNow: (message: Out) => Effect.Effect<void, ConnectionError>
  /** What `sendAll` does: all of them can be encoded, or none is sent. Must not throw. */
  readonly sendAllNow: (messages: Iterable<Out>) => Effect.Effect<void, ConnectionError>
}

/** An `Effect.suspend` without a closure for each message, and done at once in a generator. */
abstract class Sends<in out Out, in out A> extends Effectable.Class<void, ConnectionError> {
  protected readonly sender: Sender<Out>
  protected readonly what: A

  constructor(sender: Sender<Out>, what: A) {
    super()
    this.sender = sender
    this.what = what
  }

  override [Symbol.iterator](): Effect.EffectIterator<Effect.Effect<void, ConnectionError>> {
    const { sender } = this
    const { kept } = sender
    const effect = this.asEffect()
    if (effect !== Effect.void) return effect[Symbol.iterator]()
    // who never has to wait, because nothing is kept, gives way to others on the long way
    return sender.kept > kept ? done : Effect.suspend(() => Effect.void)[Symbol.iterator]()
  }
}

/** What `send` returns. */
export class Sending<in out Out> extends Sends<Out, Out> {
  asEffect(): Effect.Effect<void, ConnectionError> {
    return this.sender.sendNow(this.what)
  }
}

/** What `sendAll` returns. */
export class SendingAll<in out Out> extends Sends<Out, Iterable<Out>> {
  asEffect(): Effect.Effect<void, ConnectionError> {
    return this.sender.sendAllNow(this.what)
  }
}
