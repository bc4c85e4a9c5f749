/** A worker as a process: started, told to stop, and heard. */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as ChildProcess from "node:child_process"
import { Calls, isCall } from "../addresses/calls.ts"
import { type Identity, isOurs, type Order, type Request, variable } from "../addresses/worker.ts"
import type { Peer, Sockets } from "./sockets.ts"
import type { Ended, Process } from "./supervision.ts"

/** What a worker runs. */
export interface Entry {
  readonly file: string
  readonly args: ReadonlyArray<string>
}

// milliseconds from the last connection of one that is renewed to its stop, which would refuse a handshake that is under way
const lastHandshakes = 1000

const alive = new Set<ChildProcess.ChildProcess>()

/** Kills all of this process at once. */
export const killAll = (): void => {
  for (const child of alive) child.kill("SIGKILL")
}

/** What a parent does for its workers. */
export interface Duties {
  readonly sockets: Sockets
  /** Runs what their messages ask for. */
  readonly run: (effect: Effect.Effect<unknown>) => void
  /** Answers what one of them asks; what this gives back is called once that one is dead. */
  readonly serve: (calls: Calls, identity: Identity, pid: number | undefined) => () => void
}

/** Starts one. */
export const start = ({ run, serve, sockets }: Duties, entry: Entry, identity: Identity): Process => {
  const child = ChildProcess.fork(entry.file, entry.args, {
    env: { ...process.env, [variable]: JSON.stringify(identity) },
    // the input is the parent's
    stdio: ["ignore", "inherit", "inherit", "ipc"],
    // bytes as they are
    serialization: "advanced"
  })
  const ready = Deferred.makeUnsafe<void>()
  const ended = Deferred.makeUnsafe<Ended>()
  let stopWithin = identity.stopWithin

  const peer: Peer = {
    isReady: false,
    isLeaving: false,
    // one that is gone hears nothing; `disconnect` says so
    say: (order: Order, handle) => {
      if (child.connected) child.send(order, handle as ChildProcess.SendHandle, {}, () => {})
    }
  }
  const hear = (request: Request): void => {
    switch (request.holdfast) {
      case "stops":
        stopWithin = request.within
        return
      case "ready":
        peer.isReady = true
        Deferred.doneUnsafe(ready, Exit.void)
        return sockets.ready()
      case "took":
        return sockets.took(peer, request.id, request.sent, request.isTaken)
      case "leave":
        sockets.leave(peer, request.id)
        return peer.say({ holdfast: "left", id: request.id })
      case "listen": {
        const { address, binding, id } = request
        const answered = Effect.map(
          sockets.listen(peer, id, address, binding),
          (answer) => peer.say({ holdfast: "answer", id, answer })
        )
        return run(answered)
      }
    }
  }
  const calls = new Calls((call) => {
    if (child.connected) child.send(call, () => {})
  })
  const onDead = serve(calls, identity, child.pid)
  let stopping: NodeJS.Timeout | undefined
  let isGone = false
  const gone = (): void => {
    if (isGone) return
    isGone = true
    clearTimeout(stopping)
    peer.isReady = false
    sockets.leave(peer)
    calls.end()
  }
  child.on("message", (message) => {
    if (!isOurs(message)) return
    if (isCall(message)) calls.hear(message)
    else hear(message as Request)
  })
  // after everything that it said
  child.on("disconnect", gone)
  alive.add(child)
  child.on("exit", (code, signal) => {
    alive.delete(child)
    Deferred.doneUnsafe(ended, Exit.succeed({ code, signal }))
  })
  // Node tells of no `disconnect` where a handle was on its way to it; what was read last is told in the next turn
  child.on("close", () => {
    setImmediate(() => {
      gone()
      onDead()
    })
  })
  // it could not be started, or not be told
  child.on("error", () => {
    if (child.pid === undefined) Deferred.doneUnsafe(ended, Exit.succeed({ code: null, signal: null }))
  })
  return {
    pid: child.pid,
    ready: Deferred.await(ready),
    ended: Deferred.await(ended),
    stopWithin: () => stopWithin,
    stop: Effect.sync(() => {
      peer.isLeaving = true
      clearTimeout(stopping)
      const say = (): void => peer.say({ holdfast: "stop" })
      if (sockets.isEnding) say()
      else stopping = setTimeout(say, lastHandshakes)
    }),
    kill: Effect.sync(() => void child.kill("SIGKILL"))
  }
}
