/** The sockets that a parent listens on for its workers, and which worker gets each connection. */
import * as Effect from "effect/Effect"
import * as Net from "node:net"
import type { Address } from "../addresses/address.ts"
import { type Binding, listen, type Refusal, type Release } from "../addresses/listen.ts"
import type { Answer, Order } from "../addresses/worker.ts"
import { untilQuiet } from "../listening/lastAccept.ts"
import { drop } from "../stream/handle.ts"
import { noop } from "../stream/tcp.ts"

// how many connections a worker has been sent and not taken: one whose event loop is blocked keeps no more of them waiting
const mostSent = 4

// how many wait for a worker, as in the kernel's queue; one more is reset
const mostWaiting = 4096

// milliseconds in which what waits is handed out when the parent stops
const lastHandOut = 2000

/** A worker as its sockets see it. */
export interface Peer {
  readonly say: (order: Order, handle?: object) => void
  /** Whether its program takes connections. */
  isReady: boolean
  /** It was asked to stop. */
  isLeaving: boolean
}

interface Member {
  readonly peer: Peer
  readonly id: number
  readonly sent: Map<number, Net.Socket>
  /** It gets no more, and still takes what it was sent. */
  isLeaving: boolean
}

interface Held {
  readonly server: Net.Server
  readonly asked: Address
  readonly binding: Binding
  at: string | Net.AddressInfo
  accepted: number
  readonly waiting: Array<Net.Socket>
  /** In the order in which they are asked; the first one is the next. */
  members: Array<Member>
  readonly close: Effect.Effect<void>
}

/** Whether a worker asks for the socket that is held; a port that the kernel chose goes by both of its names. */
const isFor = ({ asked, at, binding }: Held, address: Address, wanted: Binding): boolean => {
  if (asked.scheme === "unix" || address.scheme === "unix") {
    return asked.scheme === "unix" && address.scheme === "unix" && asked.path === address.path
  }
  const port = typeof at === "string" ? asked.port : at.port
  return asked.host === address.host && [asked.port, port].includes(address.port) && binding.fd === wanted.fd &&
    binding.ipv6Only === wanted.ipv6Only
}

/** All of them. They stay open when a worker dies: its clients come back to the others, or wait for it to start again. */
export class Sockets {
  private readonly all = new Set<Held>()
  /** Whether all stop: no other worker takes what one leaves. */
  isEnding = false
  private count = 0

  /** Listens for a worker: on what another one has asked for already, or anew. */
  listen(peer: Peer, id: number, address: Address, binding: Binding): Effect.Effect<Answer> {
    return Effect.suspend((): Effect.Effect<Answer> => {
      const known = [...this.all].find((held) =>
        isFor(held, address, binding) && held.members.every((member) => member.peer !== peer || member.isLeaving)
      )
      return known === undefined
        ? Effect.match(this.open(address, binding), {
          onFailure: ({ cause, detail, reason }): Answer => ({ refused: { reason, detail }, message: cause.message }),
          onSuccess: (held) => this.join(held, peer, id)
        })
        : Effect.succeed(this.join(known, peer, id))
    })
  }

  private join(held: Held, peer: Peer, id: number): Answer {
    held.members.push({ peer, id, sent: new Map(), isLeaving: false })
    this.handOut(held)
    return { at: held.at }
  }

  private open(address: Address, binding: Binding): Effect.Effect<Held, Refusal> {
    return Effect.suspend(() => {
      const server = Net.createServer({ allowHalfOpen: true, pauseOnConnect: true })
      let release: Release = Effect.void
      const held: Held = {
        server,
        asked: address,
        binding,
        at: "",
        accepted: 0,
        waiting: [],
        members: [],
        close: Effect.suspend(() => Effect.andThen(untilQuiet(server, () => held.accepted), release))
      }
      server.on("error", noop)
      server.on("connection", (conn) => {
        held.accepted++
        conn.on("error", noop)
        if (held.waiting.length >= mostWaiting) return drop(conn)
        held.waiting.push(conn)
        this.handOut(held)
      })
      return Effect.map(listen(server, address, binding), (given) => {
        release = given
        held.at = server.address()!
        this.all.add(held)
        return held
      })
    })
  }

  /** A worker has begun to take connections. */
  ready(): void {
    for (const held of this.all) this.handOut(held)
  }

  /** What a worker says of a connection that it was sent. One that it did not take is for another. */
  took(peer: Peer, id: number, sent: number, isTaken: boolean): void {
    for (const held of this.all) {
      const member = held.members.find((one) => one.peer === peer && one.id === id)
      const conn = member?.sent.get(sent)
      if (conn === undefined) continue
      member!.sent.delete(sent)
      // ours is a copy of the descriptor: the connection goes on
      if (isTaken) conn.destroy()
      else held.waiting.unshift(conn)
      this.forgetLeft(held)
      this.handOut(held)
    }
  }

  /** A server of a worker gets no more, or the whole worker is gone. What it had not taken is for another. */
  leave(peer: Peer, id?: number): void {
    for (const held of this.all) {
      const leaving = held.members.filter((one) => one.peer === peer && (id === undefined || one.id === id))
      if (leaving.length === 0) continue
      for (const member of leaving) {
        member.isLeaving = true
        // one that leaves in order still takes what it was sent
        if (id !== undefined) continue
        held.waiting.unshift(...member.sent.values())
        member.sent.clear()
      }
      this.forgetLeft(held)
      this.handOut(held)
    }
  }

  /** Those that have left, and taken what they were sent. */
  private forgetLeft(held: Held): void {
    held.members = held.members.filter(({ isLeaving, sent }) => !isLeaving || sent.size > 0)
  }

  /** Gives back what no new worker listens on, after a renewal of all. */
  readonly closeUnused: Effect.Effect<void> = Effect.suspend(() => {
    const unused = [...this.all].filter(({ members }) =>
      members.every(({ isLeaving, peer }) => isLeaving || peer.isLeaving)
    )
    return Effect.forEach(unused, (held) => this.close(held), { concurrency: "unbounded", discard: true })
  })

  /** Listens no more, once what the kernel has accepted is with a worker. */
  readonly end: Effect.Effect<void> = Effect.suspend(() => {
    this.isEnding = true
    return Effect.forEach([...this.all], (held) => this.close(held), { concurrency: "unbounded", discard: true })
  })

  private close(held: Held): Effect.Effect<void> {
    const handedOut = Effect.callback<void>((resume) => {
      const until = performance.now() + lastHandOut
      const look = (): void => {
        const isOver = held.waiting.length === 0 && held.members.every(({ sent }) => sent.size === 0)
        if (!isOver && performance.now() < until) return void setTimeout(look, 1)
        for (const conn of held.waiting.splice(0)) conn.destroy()
        this.all.delete(held)
        resume(Effect.void)
      }
      look()
    })
    return Effect.andThen(held.close, handedOut)
  }

  /** Each in its turn, so that all have as many. */
  private handOut(held: Held): void {
    while (held.waiting.length > 0) {
      const next = held.members.findIndex(({ isLeaving, peer, sent }) =>
        !isLeaving && peer.isReady && !peer.isLeaving && sent.size < mostSent
      )
      if (next < 0) return
      const [member] = held.members.splice(next, 1)
      held.members.push(member!)
      this.send(member!, held.waiting.shift()!)
    }
  }

  private send({ id, peer, sent }: Member, conn: Net.Socket): void {
    const { _handle: handle } = conn as { readonly _handle?: object | null }
    // its client has left
    if (handle === null || handle === undefined) return
    const number = ++this.count
    sent.set(number, conn)
    peer.say({ holdfast: "connection", id, sent: number }, handle)
  }
}
