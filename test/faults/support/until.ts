/** Waiting: for a time, for a condition, for a turn. */

export const sleep = (millis: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, millis))

/** Looks at a condition until it holds; fails after the deadline with what was waited for. */
export const until = async (
  what: () => string,
  condition: () => boolean,
  deadline = 20_000
): Promise<void> => {
  const end = performance.now() + deadline
  while (!condition()) {
    if (performance.now() > end) throw new Error(`waited ${deadline / 1000} s in vain for ${what()}`)
    await sleep(20)
  }
}

/** At most so many at a time. */
export const limited = (most: number) => {
  let running = 0
  const waiting: Array<() => void> = []
  return async <A>(work: () => Promise<A>): Promise<A> => {
    if (running >= most) await new Promise<void>((resolve) => waiting.push(resolve))
    else running++
    try {
      return await work()
    } finally {
      const next = waiting.shift()
      if (next === undefined) running--
      else next()
    }
  }
}
