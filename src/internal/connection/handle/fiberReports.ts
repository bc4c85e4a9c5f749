/** What the fibers of a connection do, for diagnosis. */
import type * as Fiber from "effect/Fiber"
import { type Conversation, type FiberName, fiberNames } from "../core/state.ts"
import type { FiberReport } from "./internals.ts"

type Doing = FiberReport["state"]

const doing = <In, Out>(c: Conversation<In, Out>, name: FiberName): Doing => {
  const { facts, lifecycle, wakeUp } = c
  switch (name) {
    case "reader":
      if (c.isPulling) return "waiting"
      return lifecycle._tag === "Open" && facts.readingSince === undefined ? "paused" : "working"
    case "writer":
      return c.standBy === undefined ? "working" : "waiting"
    case "heartbeat":
      if (c.way.ping === undefined || wakeUp.firstAt === Infinity) return "parked"
      return wakeUp.isFirstSleeping ? "waiting" : "working"
    case "deadlines":
      if (!wakeUp.isSecondSleeping) return "working"
      return wakeUp.secondAt === Infinity ? "parked" : "waiting"
  }
}

const report = (
  name: FiberReport["name"],
  fiber: Fiber.Fiber<unknown, unknown>,
  state: Doing,
  worked: number,
  direct: number
): FiberReport => {
  const exit = fiber.pollUnsafe()
  return { name, fiber, state: exit === undefined ? state : "ended", exit, worked, direct }
}

/** Its own fiber, the four under it, and the handler of a server, if there is one. */
export const reportsOf = <In, Out>(c: Conversation<In, Out>): ReadonlyArray<FiberReport> => {
  const { children, fiber, handler } = c
  const worked = [c.reads, c.writes, c.beats, c.looks]
  const direct = [c.directReads, c.directWrites, 0, 0]
  const reports = [report("connection", fiber!, "waiting", 0, 0)]
  fiberNames.forEach((name, i) => {
    reports.push(report(name, children.fibers[i]!, doing(c, name), worked[i]!, direct[i]!))
  })
  if (handler?.fiber !== undefined) reports.push(report("handler", handler.fiber, "working", 0, 0))
  return reports
}
