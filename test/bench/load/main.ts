/** A load process: holds connections to one server, idle until it is told to run. */
import { performance } from "node:perf_hooks"
import { onCommand } from "../support/commands.ts"
import { percentiles, Samples } from "../support/figures.ts"
import type { Hooks } from "./Link.ts"
import { Link } from "./Link.ts"
import type { Family, Wire } from "./wires.ts"
import { wireOf } from "./wires.ts"

export interface ConnectOrder {
  readonly port: number
  readonly family: Family
  readonly connections: number
  readonly inFlight: number
  readonly size: number
}

export interface RunResult {
  /** Completed inside the window. */
  readonly count: number
  /** Completed from the first request of the turn to its last echo. */
  readonly total: number
  /** Milliseconds of the window. */
  readonly elapsed: number
  /** Share of a core that this process used. */
  readonly busy: number
  /** Milliseconds; only with one in flight, or in an open loop. */
  readonly latency: { readonly p50: number; readonly p99: number; readonly p999: number } | undefined
}

// so many connections are dialled at once; a listener's backlog is 511
const dialling = 128
// closed loops count once all connections are under way
const ramp = 100
// a server that has done nothing for so long never will; a machine that others use can be slow
const patience = 30_000

let port = 0
let wire: Wire
let inFlight = 1
let links: Array<Link> = []
/** `inFlight` requests and fewer, ready to be written. */
let requests: Array<Buffer> = []
let failure: Error | undefined
let onFailure: ((error: Error) => void) | undefined

let mode: "idle" | "closed" | "open" = "idle"
let sending = false
let counting = false
let count = 0
let total = 0
let outstanding = 0
let onQuiet: (() => void) | undefined
let broadcasts = 0
let expected = 0
let onBroadcast: (() => void) | undefined
const samples = new Samples()

const send = (link: Link, many: number, now: number): void => {
  link.outstanding += many
  outstanding += many
  link.sentAt = now
  link.socket.write(requests[many]!)
}

const hooks: Hooks = {
  broken: (error) => {
    failure ??= error
    onFailure?.(error)
  },
  broadcast: () => {
    if (++broadcasts === expected) onBroadcast?.()
  },
  replies: (link, many) => {
    if (many > link.outstanding) throw new Error("more echoes than requests")
    const now = performance.now()
    link.outstanding -= many
    outstanding -= many
    total += many
    if (counting) {
      count += many
      if (mode === "closed" && inFlight === 1) samples.add(now - link.sentAt)
    }
    if (mode === "open") {
      for (const due of link.due.splice(0, many)) if (counting) samples.add(now - due)
    } else if (sending) send(link, many, now)
    if (outstanding === 0 && !sending) onQuiet?.()
  }
}

/** Fails as soon as any connection does, or nothing happens for too long. */
const orFailure = <A>(
  what: string,
  start: (resolve: (value: A) => void, progress: () => void) => void
): Promise<A> =>
  new Promise<A>((resolve, reject) => {
    const done = () => {
      clearTimeout(timer)
      onFailure = undefined
    }
    onFailure = (error) => {
      done()
      reject(new Error(`${what}: ${error.message}`))
    }
    const timer = setTimeout(() => onFailure?.(new Error(`nothing happened for ${patience} ms`)), patience)
    if (failure !== undefined) return onFailure(failure)
    start((value) => {
      done()
      resolve(value)
    }, () => timer.refresh())
  })

const later = (millis: number): Promise<void> =>
  orFailure("running", (resolve) => {
    setTimeout(resolve, millis)
  })

const quiet = (): Promise<void> =>
  orFailure("waiting for the last echoes", (resolve) => {
    onQuiet = resolve
    if (outstanding === 0) resolve()
  })

onCommand("connect", (order: ConnectOrder) => {
  port = order.port
  inFlight = order.inFlight
  wire = wireOf(order.family, order.size)
  requests = Array.from(
    { length: inFlight + 1 },
    (_, many) => Buffer.concat(Array.from({ length: many }, () => wire.request))
  )
  return orFailure<void>("connecting", (resolve, progress) => {
    // opening more of them is fine
    let ready = links.length
    const dial = (): void => {
      if (links.length === order.connections) return
      links.push(Link.open(port, wire, hooks, () => {
        ready++
        progress()
        dial()
        if (ready === order.connections) resolve()
      }))
    }
    for (let i = 0; i < dialling; i++) dial()
  })
})

onCommand("close", () => {
  for (const link of links) link.close()
  links = []
})

const measured = async (ms: number): Promise<RunResult> => {
  const cpu = process.cpuUsage()
  const start = performance.now()
  count = 0
  counting = true
  await later(ms)
  counting = false
  const elapsed = performance.now() - start
  const { system, user } = process.cpuUsage(cpu)
  sending = false
  await quiet()
  const taken = samples.take()
  return {
    count,
    total,
    elapsed,
    busy: (user + system) / 1000 / elapsed,
    latency: taken.length > 0 ? percentiles(taken) : undefined
  }
}

/** Every reply is followed by the next request at once. */
onCommand("run", async ({ ms }: { readonly ms: number }) => {
  mode = "closed"
  sending = true
  total = 0
  const now = performance.now()
  for (const link of links) send(link, inFlight, now)
  await later(ramp)
  return measured(ms)
})

/**
 * Requests leave when they are due, whether or not the earlier ones were answered, and their latency counts from when
 * they were due: a server that stalls does not make its clients stop asking. Arrivals are a Poisson process.
 */
onCommand("open", async ({ ms, rate }: { readonly ms: number; readonly rate: number }) => {
  mode = "open"
  sending = true
  total = 0
  let due = performance.now()
  let turn = 0
  const tick = (): void => {
    if (!sending || failure !== undefined) return
    const now = performance.now()
    while (due <= now) {
      const link = links[turn++ % links.length]!
      link.due.push(due)
      send(link, 1, now)
      due -= (Math.log(1 - Math.random()) * 1000) / rate
    }
    setImmediate(tick)
  }
  tick()
  await later(ramp)
  return measured(ms)
})

/** Connections that come, are answered once, and leave. */
onCommand("churn", async ({ atOnce, ms }: { readonly atOnce: number; readonly ms: number }) => {
  let living = 0
  sending = true
  total = 0
  const next = (): void => {
    living++
    Link.open(port, wire, hooks, (link) => {
      total++
      if (counting) count++
      link.close()
      living--
      if (sending) next()
      else if (living === 0) onQuiet?.()
      outstanding = living
    })
    outstanding = living
  }
  for (let i = 0; i < atOnce; i++) next()
  await later(ramp)
  return measured(ms)
})

/** Resolves when every connection has got a message of this size. */
onCommand("expect", ({ size }: { readonly size: number }) => {
  broadcasts = 0
  expected = links.length
  for (const link of links) link.broadcastSize = size
  return orFailure<void>("waiting for a broadcast", (resolve) => {
    onBroadcast = resolve
  })
})
