/** What a fleet of clients has said, in figures. */
import type { Program } from "./Program.ts"
import { sleep } from "./until.ts"

/** The lines of a kind since a moment, `KIND N ...`: with the number of the client, and the last word. */
const told = (fleet: Program, kind: string, since: number) =>
  fleet.lines.flatMap(({ at, text }) => {
    if (at < since || !text.startsWith(`${kind} `)) return []
    const [, client, last = ""] = text.split(" ")
    return Number.isNaN(Number(client)) ? [] : [{ at, client: Number(client), last }]
  })

/** Waits until so many clients have said it; when the last of them did, and how many at all. */
export const allHave = async (
  fleet: Program,
  kind: "connected" | "lost",
  count: number,
  since: number,
  deadline: number
): Promise<{ readonly clients: number; readonly seconds: number; readonly spread: number }> => {
  const end = performance.now() + deadline * 1000
  while (true) {
    const first = new Map<number, number>()
    for (const { at, client } of told(fleet, kind, since)) if (!first.has(client)) first.set(client, at)
    const moments = [...first.values()]
    if (moments.length >= count || performance.now() > end) {
      return {
        clients: moments.length,
        seconds: (Math.max(since, ...moments) - since) / 1000,
        spread: moments.length === 0 ? 0 : (Math.max(...moments) - Math.min(...moments)) / 1000
      }
    }
    await sleep(100)
  }
}

/** How often each client tried in vain, or lost a connection. */
export const triesOf = (fleet: Program, since: number): ReadonlyArray<number> => {
  const tries = new Map<number, number>()
  for (const { client } of told(fleet, "lost", since)) tries.set(client, (tries.get(client) ?? 0) + 1)
  return [...tries.values()]
}

/** What became of requests. */
export const requestsOf = (fleet: Program, since: number) => {
  const millis = told(fleet, "answered", since).map(({ last }) => Number(last) / 1000).toSorted((a, b) => a - b)
  const failed = told(fleet, "failed", since).map(({ last }) => last)
  return { answered: millis.length, failed, p99: millis[Math.floor(millis.length * 0.99)] ?? Infinity }
}
