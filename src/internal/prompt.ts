/**
 * What is done before anybody could wait for it.
 *
 * A generator asks each effect that it gets with `yield*` for an iterator. One that has ended already is not seen by the
 * loop of the runtime, which would cost as much as everything else that is done for a small message (0.5 of 1.2 us).
 */
import type * as Effect from "effect/Effect"

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

export const done = new Done<void>(undefined)
