/** Says every few seconds how far a long run is, as a line. */
import { setImmediate } from "node:timers/promises"

const every = 5000

/** Call it after each step, with how many are done: on a terminal or in a log it says where the run is, and how long it goes on. */
export const progress = (what: string, total: number) => {
  const began = performance.now()
  let saidAt = began
  return async (done: number): Promise<void> => {
    const now = performance.now()
    if (now - saidAt < every) return
    saidAt = now
    const each = (now - began) / done
    console.log(
      `${what} ${done} of ${total}, ${Math.round(each)} ms each, ${Math.ceil((each * (total - done)) / 1000)} s left`
    )
    // vitest prints it in a turn of the event loop, which a simulation leaves it none of
    await setImmediate()
  }
}
