import { assert, describe, it } from "@effect/vitest"
import type * as Scheduler from "effect/Scheduler"
import { turnsOf } from "../../src/internal/scheduling/turns.ts"

/** A scheduler whose event loop turns when it is told to. */
const make = () => {
  const due: Array<() => void> = []
  const scheduler: Scheduler.Scheduler = {
    executionMode: "async",
    shouldYield: () => false,
    makeDispatcher: () => ({ scheduleTask: (task) => due.push(task), flush: () => {} })
  }
  return { scheduler, due, turn: () => due.shift()!() }
}

describe("turns", () => {
  it("everything that is due is one task of the event loop, also what that wakes", () => {
    const { due, scheduler, turn } = make()
    const turns = turnsOf(scheduler)
    const order: Array<string> = []
    turns.scheduleTask(() => {
      order.push("a")
      turns.scheduleTask(() => order.push("woken by a"))
    })
    turns.scheduleTask(() => order.push("b"))
    assert.strictEqual(due.length, 1)
    turn()
    assert.deepStrictEqual(order, ["a", "b", "woken by a"])
    assert.strictEqual(due.length, 0)
  })

  it("who wakes each other for ever lets the event loop turn in between", () => {
    const { due, scheduler, turn } = make()
    const turns = turnsOf(scheduler)
    let rounds = 0
    const again = () => {
      rounds++
      turns.scheduleTask(again)
    }
    turns.scheduleTask(again)
    turn()
    assert.strictEqual(rounds, 4)
    assert.strictEqual(due.length, 1)
    turn()
    assert.strictEqual(rounds, 8)
  })

  it("B101 the owner of a task that throws is told; it takes no other with it, and what comes later comes in its order", () => {
    const { due, scheduler, turn } = make()
    const turns = turnsOf(scheduler)
    const order: Array<string> = []
    turns.scheduleTask(() => turns.scheduleTask(() => order.push("c")))
    const thrown = new Error("no")
    const told: Array<unknown> = []
    turns.scheduleTask({
      run: () => {
        throw thrown
      },
      failed: (defect) => told.push(defect)
    })
    turns.scheduleTask(() => order.push("b"))
    turn()
    assert.deepStrictEqual(told, [thrown])
    assert.strictEqual(due.length, 0)
    assert.deepStrictEqual(order, ["b", "c"])
  })

  it("many that are due need not wait for the event loop, and are done once", () => {
    const { due, scheduler, turn } = make()
    const turns = turnsOf(scheduler)
    let done = 0
    for (let i = 1; i <= 63; i++) turns.scheduleTask(() => done++)
    turns.relieve()
    assert.strictEqual(done, 0)
    // asked from within, it does not begin again
    turns.scheduleTask(() => {
      for (let i = 0; i < 100; i++) turns.scheduleTask(() => done++)
      turns.relieve()
      assert.strictEqual(done, 63)
    })
    turns.relieve()
    assert.strictEqual(done, 163)
    while (due.length > 0) turn()
    assert.strictEqual(done, 163)
    turns.scheduleTask(() => done++)
    assert.strictEqual(due.length, 1)
    turn()
    assert.strictEqual(done, 164)
  })

  it("a scheduler has one, another scheduler another", () => {
    const one = make().scheduler
    assert.strictEqual(turnsOf(one), turnsOf(one))
    assert.notStrictEqual(turnsOf(one), turnsOf(make().scheduler))
  })
})
