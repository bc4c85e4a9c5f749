/** Checks of what is published: it comes whole, once, in order, or is told as lost. */
import * as Effect from "effect/Effect"
import type { Arrival } from "../../../Backplane.ts"
import { type Check, check, expect } from "./steps.ts"

const numberOf = (bytes: Uint8Array): number => new DataView(bytes.buffer, bytes.byteOffset).getUint32(0)

const numbered = (number: number, size = 4): Uint8Array => {
  const bytes = new Uint8Array(size)
  new DataView(bytes.buffer).setUint32(0, number)
  return bytes
}

const numbersOf = (arrivals: ReadonlyArray<Arrival>): ReadonlyArray<number> =>
  arrivals.map((arrival) => arrival._tag === "Batch" ? numberOf(arrival.bytes) : -1)

export const inboxes: ReadonlyArray<Check> = [
  check("batches of one node arrive whole, once and in order", ({ does, join, take }) =>
    Effect.gen(function*() {
      const a = yield* join("a")
      const b = yield* join("b")
      for (let i = 0; i < 200; i++) {
        const published = yield* does("a batch to be taken", a.publish("b", numbered(i, 4 + (i % 50))))
        yield* expect(published === "sent", "sent", published)
      }
      const arrivals = yield* take(b, 200)
      const isInOrder = numbersOf(arrivals).every((number, i) => number === i)
      yield* expect(isInOrder, "200 batches in order", numbersOf(arrivals))
      const areWhole = arrivals.every((arrival, i) => arrival._tag === "Batch" && arrival.bytes.length === 4 + (i % 50))
      yield* expect(areWhole, "batches of the size they had", arrivals.length)
    })),

  check("a node publishes to itself", ({ does, join, take }) =>
    Effect.gen(function*() {
      const a = yield* join("a")
      yield* does("a batch to be taken", a.publish("a", numbered(1)))
      yield* expect(numbersOf(yield* take(a, 1)).join() === "1", "its own batch", "another one")
    })),

  check(
    "what is published before is taken before, whichever node publishes",
    ({ does, join, take }) =>
      Effect.gen(function*() {
        const a = yield* join("a")
        const b = yield* join("b")
        const c = yield* join("c")
        for (let i = 0; i < 50; i++) yield* does("a batch to be taken", [a, b, c][i % 3]!.publish("c", numbered(i)))
        const numbers = numbersOf(yield* take(c, 50))
        yield* expect(numbers.every((number, i) => number === i), "50 batches in order", numbers)
      })
  ),

  check("a node that waits for a batch gets it when it comes", ({ does, join, take }) =>
    Effect.gen(function*() {
      const a = yield* join("a")
      const b = yield* join("b")
      const [arrivals] = yield* Effect.all([
        take(b, 1),
        Effect.andThen(Effect.sleep(20), does("a batch to be taken", a.publish("b", numbered(9))))
      ], { concurrency: 2 })
      yield* expect(numbersOf(arrivals).join() === "9", "the batch", numbersOf(arrivals))
    })),

  check("a batch for a node that is not there reaches nobody", ({ does, join }) =>
    Effect.gen(function*() {
      const a = yield* join("a")
      const published = yield* does("a publish to end", a.publish("nobody-has-this-name", numbered(1)))
      yield* expect(published === "nobody", "nobody", published)
    })),

  check(
    "a batch of the largest size arrives, and a larger one fails as such",
    ({ does, engine, fails, join, take }) =>
      Effect.gen(function*() {
        const a = yield* join("a")
        const b = yield* join("b")
        yield* expect(engine.largest >= 65_536, "a limit of 64 KiB or more", engine.largest)
        const size = Math.min(engine.largest, 8 * 1_048_576)
        yield* does("a large batch to be taken", a.publish("b", numbered(5, size)))
        const [arrival] = yield* take(b, 1)
        const isWhole = arrival?._tag === "Batch" && arrival.bytes.length === size && numberOf(arrival.bytes) === 5
        yield* expect(isWhole, `a batch of ${size} bytes`, arrival?._tag)
        if (engine.largest > size) return
        const why = yield* fails("a larger batch to fail", a.publish("b", numbered(6, size + 1)))
        yield* expect(why === "size", "size", why)
        yield* does("the next batch to be taken", a.publish("b", numbered(7)))
        yield* expect(numbersOf(yield* take(b, 1)).join() === "7", "the next batch", "another one")
      })
  ),

  check(
    "what is too much for an inbox is a gap, ahead of what comes later",
    ({ does, join, take }) =>
      Effect.gen(function*() {
        const a = yield* join("a")
        const b = yield* join("b")
        const many = 3000
        for (let i = 0; i < many; i++) yield* does("a batch to be taken", a.publish("b", numbered(i, 1000)))
        const arrivals = yield* take(b, many)
        let next = 0
        for (const arrival of arrivals) {
          if (arrival._tag === "Gap") next = arrival.count === undefined ? NaN : next + arrival.count
          else {
            const number = numberOf(arrival.bytes)
            const isNext = Number.isNaN(next) ? true : number === next
            yield* expect(isNext, `batch ${next}, or a gap before it`, number)
            next = number + 1
          }
        }
        yield* does("the next batch to be taken", a.publish("b", numbered(many)))
        const later = yield* take(b, 1)
        yield* expect(numbersOf(later).includes(many), "what comes after it", numbersOf(later))
      })
  )
]
