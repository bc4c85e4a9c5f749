/** Policies of a swarm: any that make sense together, drawn from the seed. */
import { Policy } from "../../../src/index.ts"

export type Draw = () => number

export const pick = <A>(draw: Draw, ...items: ReadonlyArray<A>): A => items[Math.floor(draw() * items.length)]!

const overflow = (draw: Draw) => pick(draw, "wait", "fail", "drop-newest", "drop-oldest", "close" as const)

/** What both ends have limits for. `pace`: how much longer they are than in production. */
const common = (draw: Draw, pace: number) => {
  // most are as patient as in production, and a few want to know at once. A connection looks at its limits about once in
  // the shortest of them, so that the few cost as much as all the others
  const isHasty = draw() < 0.1
  const silence = pace * (isHasty ? 15_000 : pick(draw, 30_000, 60_000, 60_000, 120_000, 120_000))
  return {
    silence,
    // two pings fit into the silence
    pingEvery: silence / 2.5,
    pingWhen: pick(draw, "quiet", "quiet", "always"),
    pingJitter: pick(draw, 0, 0.1, 1),
    pong: pace * (isHasty ? 3_000 : pick(draw, 0, 0, 10_000, 20_000)),
    misses: pick(draw, 0, 0, 2),
    writeStall: pace * (isHasty ? 3_000 : pick(draw, 10_000, 30_000, 30_000)),
    frame: pace * pick(draw, 0, 20_000, 60_000),
    open: pick(draw, 5_000, 10_000),
    handshake: pick(draw, 5_000, 10_000),
    halfClose: pick(draw, 0, 1_000, 5_000),
    drain: pick(draw, 0, 1_000, 5_000),
    overflow: overflow(draw),
    outboxMessages: pick(draw, 2, 16, 1024),
    outboxBytes: pick(draw, 16_384, 2 * 1024 * 1024),
    lowWater: pick(draw, 0, 0.5, 1),
    inboxMessages: pick(draw, 1, 8, 1024),
    inboxBytes: pick(draw, 256, 65_536, 1024 * 1024)
  } as const
}

export const server = (draw: Draw, pace: number): Policy.Policy =>
  Policy.make({
    ...common(draw, pace),
    overflow: pick(draw, "wait", "fail", "drop-newest", "drop-oldest", "close"),
    maxAge: pace * pick(draw, 0, 0, 120_000, 600_000),
    maxAgeGrace: pick(draw, 0, 5_000, 30_000),
    idle: pace * pick(draw, 0, 0, 300_000),
    maxConnections: pick(draw, 0, 0, 24),
    maxConnectionsPerAddress: pick(draw, 0, 0, 0, 4),
    acceptRate: pick(draw, 0, 0, 0, 5),
    whenFull: pick(draw, "wait", "reject"),
    maxWaiting: pick(draw, 4, 1024)
  })

export const client = (draw: Draw, pace: number): Policy.Policy =>
  Policy.make({
    ...common(draw, pace),
    whenOffline: pick(draw, "wait", "fail"),
    offlineMessages: pick(draw, 0, 4, 1024),
    offlineBytes: pick(draw, 4_096, 1024 * 1024),
    retryBase: pick(draw, 200, 1_000, 2_000),
    retryCap: pick(draw, 2_000, 30_000),
    retryFactor: pick(draw, 1.5, 2),
    retryJitter: pick(draw, "full", "equal", "decorrelated", "none"),
    retryResetAfter: pick(draw, 5_000, 60_000),
    retryMaxAdvice: pick(draw, 0, 20_000)
  })
