/** What a worker asks of its parent: to listen for it, and to hand it connections. See `Workers`. */
import * as Effect from "effect/Effect"
import * as Net from "node:net"
import { spreadIds } from "../../../internal/connection/handle/internals.ts"
import type { Address } from "./address.ts"
import type { Binding, Refusal } from "./binding.ts"
import { type Call, Calls, isCall } from "./calls.ts"

/** Where a parent says to the process that it starts that it is a worker. */
export const variable = "HOLDFAST_WORKER"

/** Which worker this is. */
export interface Identity {
  /** From 1. */
  readonly number: number
  /** Of how many. */
  readonly count: number
  /** Whether it is the first process that the parent started, which says what is to be said once. */
  readonly isFirst: boolean
  /** Milliseconds within which it ends once it is told to, unless its program says otherwise. */
  readonly stopWithin: number
  /** Its ids are a multiple of `step`, plus this: no other process that lives has it. */
  readonly slot: number
  readonly step: number
}

/** What the parent says to a request to listen: where it is bound, or why it is not. */
export type Answer =
  | { readonly at: string | Net.AddressInfo }
  | { readonly refused: Omit<Refusal, "cause">; readonly message: string }

/** From a worker. `id` is a server of the worker. */
export type Request =
  | { readonly holdfast: "listen"; readonly id: number; readonly address: Address; readonly binding: Binding }
  | { readonly holdfast: "leave"; readonly id: number }
  | { readonly holdfast: "took"; readonly id: number; readonly sent: number; readonly isTaken: boolean }
  | { readonly holdfast: "ready" }
  | { readonly holdfast: "stops"; readonly within: number }

/** To a worker. With `connection` comes the handle of it. */
export type Order =
  | { readonly holdfast: "answer"; readonly id: number; readonly answer: Answer }
  | { readonly holdfast: "left"; readonly id: number }
  | { readonly holdfast: "connection"; readonly id: number; readonly sent: number }
  | { readonly holdfast: "stop" }

/** Whether a message between processes is one of ours. */
export const isOurs = (message: unknown): message is { readonly holdfast: string } =>
  typeof message === "object" && message !== null && "holdfast" in message

// of `net.Server`, which Node's own workers pass on as well
interface ServerOptions {
  readonly allowHalfOpen?: boolean
  readonly pauseOnConnect?: boolean
  readonly noDelay?: boolean
}

/** Makes of a handle what a `net.Server` makes of one that it accepted. */
const accepted = (server: Net.Server, handle: object): Net.Socket => {
  const { allowHalfOpen = false, noDelay = false, pauseOnConnect = false } = server as ServerOptions
  const socket = new Net.Socket({
    handle,
    allowHalfOpen,
    pauseOnCreate: pauseOnConnect,
    readable: true,
    writable: true
  } as Net.SocketConstructorOpts)
  return noDelay ? socket.setNoDelay(true) : socket
}

interface Served {
  readonly server: Net.Server
  isListening: boolean
  onAnswer: ((answer: Answer) => void) | undefined
  onLeft: (() => void) | undefined
}

/** The end of a worker of its channel to the parent. */
export class Worker {
  readonly identity: Identity
  /** What the parent is asked, and asks. */
  readonly calls = new Calls((call) => this.say(call))
  private readonly served = new Map<number, Served>()
  private readonly ids = new WeakMap<Net.Server, number>()
  private last = 0
  private isReady = false
  private stopWithin: number

  constructor(identity: Identity) {
    this.identity = identity
    this.stopWithin = identity.stopWithin
    spreadIds(identity.slot, identity.step)
    process.on("message", (message, handle) => {
      if (!isOurs(message)) return
      if (isCall(message)) this.calls.hear(message)
      else this.obey(message as Order, handle as object | undefined)
    })
    // the parent is gone without a word: nothing can reach this process any more
    const alone = (): void => {
      for (const served of this.served.values()) served.onLeft?.()
      this.calls.end()
      process.kill(process.pid, "SIGTERM")
      setTimeout(() => process.exit(1), this.stopWithin).unref()
    }
    process.on("disconnect", alone)
    // while this process was loading
    if (!process.connected) alone()
    // a terminal that closes tells all processes in it: the parent renews its workers
    process.on("SIGHUP", () => {})
    // what this process waits for are its connections
    process.channel?.unref()
  }

  /** How long this process may take to end: a renewed one may have another policy than its parent. */
  stops(within: number): void {
    this.stopWithin = within
    this.say({ holdfast: "stops", within })
  }

  /** A server of this process takes connections: the parent may hand out to it. */
  ready(): void {
    if (this.isReady) return
    this.isReady = true
    this.say({ holdfast: "ready" })
  }

  /** Asks the parent to listen for a server, which looks as if it listened by itself from then on. */
  listen(server: Net.Server, address: Address, binding: Binding): Effect.Effect<Effect.Effect<void>, Refusal> {
    return Effect.callback((resume) => {
      const id = ++this.last
      const served: Served = { server, isListening: false, onLeft: undefined, onAnswer: undefined }
      this.ids.set(server, id)
      this.served.set(id, served)
      served.onAnswer = (answer) => {
        served.onAnswer = undefined
        if ("refused" in answer) {
          this.served.delete(id)
          return resume(Effect.fail({ ...answer.refused, cause: new Error(answer.message) }))
        }
        served.isListening = true
        Object.assign(server, { address: () => answer.at })
        Object.defineProperty(server, "listening", { configurable: true, get: () => served.isListening })
        resume(Effect.succeed(this.leave(server)))
      }
      this.say({ holdfast: "listen", id, address, binding })
      return this.leave(server)
    })
  }

  /** Whether the parent listens for it. */
  listensFor(server: Net.Server): boolean {
    return this.served.has(this.ids.get(server) ?? 0)
  }

  /** Gets no more connections for a server. What the parent had handed out by then has come before this ends. */
  leave(server: Net.Server): Effect.Effect<void> {
    return Effect.callback<void>((resume) => {
      const id = this.ids.get(server) ?? 0
      const served = this.served.get(id)
      if (served === undefined) return resume(Effect.void)
      const { onLeft } = served
      served.onLeft = () => {
        served.isListening = false
        this.served.delete(id)
        onLeft?.()
        resume(Effect.void)
      }
      if (!process.connected) served.onLeft()
      else if (onLeft === undefined) this.say({ holdfast: "leave", id })
    })
  }

  private obey(order: Order, handle: object | undefined): void {
    if (order.holdfast === "stop") return void process.kill(process.pid, "SIGTERM")
    const served = this.served.get(order.id)
    switch (order.holdfast) {
      case "answer":
        return served?.onAnswer?.(order.answer)
      case "left":
        return served?.onLeft?.()
      case "connection": {
        const { id, sent } = order
        this.say({ holdfast: "took", id, sent, isTaken: served !== undefined })
        // one that its client has left already may come without a handle
        if (handle === undefined) return
        if (served !== undefined) return void served.server.emit("connection", accepted(served.server, handle))
        const { close } = handle as { readonly close?: () => void }
        return close?.call(handle)
      }
    }
  }

  private say(request: Request | Call): void {
    // the parent may be gone: `disconnect` follows
    if (process.connected) process.send!(request, () => {})
  }
}

let known: Worker | "none" | undefined

/** The worker that this process is; undefined: it was not started as one. */
export const worker = (): Worker | undefined => {
  if (known === undefined) {
    const given = process.env[variable]
    // what this process starts is no worker
    delete process.env[variable]
    known = given === undefined || process.send === undefined ? "none" : new Worker(JSON.parse(given) as Identity)
  }
  return known === "none" ? undefined : known
}
