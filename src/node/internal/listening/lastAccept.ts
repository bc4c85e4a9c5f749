/** The last accepts of a server: what waits in the kernel's queue is taken before its address is given back. */
import * as Effect from "effect/Effect"
import * as Net from "node:net"
import { worker } from "../addresses/worker.ts"
import { noop } from "../stream/tcp.ts"

// what the queue of the kernel holds at most, whatever was asked for: the default of `somaxconn` of Linux
const mostQueued = 4096

/**
 * Accepts what the kernel has accepted, and stops listening: closing the socket of a listener resets what is in its queue.
 *
 * A turn of the event loop takes at least one, so one that brings none was the last; and what was in the queue when this began
 * has been taken after as many turns as the queue has places. `count` says how many were accepted. In a worker the queue is the
 * parent's, which keeps it for others.
 */
export const untilQuiet = (server: Net.Server, count: () => number): Effect.Effect<void> =>
  Effect.suspend(() => worker()?.listensFor(server) === true ? worker()!.leave(server) : acceptedHere(server, count))

const acceptedHere = (server: Net.Server, count: () => number): Effect.Effect<void> =>
  Effect.callback((resume) => {
    const look = (before: number, left: number): void => {
      if (!server.listening) return resume(Effect.void)
      const now = count()
      if (now !== before && left > 0) return void setImmediate(look, now, left - 1)
      // frees the address at once; the callback would wait for every connection. That of an HTTP server would end idle ones; in Bun
      // it is no server of `net`, and has that alone
      if (server instanceof Net.Server) Net.Server.prototype.close.call(server, noop)
      else (server as Pick<Net.Server, "close">).close(noop)
      resume(Effect.void)
    }
    setImmediate(look, -1, mostQueued)
  })

// turns of the event loop after which what has come is read: at least one of them polls after the last accept
const turnsOfRead = 3

/** `untilQuiet`, and then as long as it takes until what had come on each connection is read. */
export const lastReads = (server: Net.Server, count: () => number): Effect.Effect<void> =>
  Effect.andThen(
    untilQuiet(server, count),
    Effect.callback<void>((resume) => {
      const wait = (left: number): void => {
        if (left === 0) resume(Effect.void)
        else setImmediate(wait, left - 1)
      }
      wait(turnsOfRead)
    })
  )
