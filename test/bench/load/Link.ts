/** One connection of the load generator: reads replies by their size, and answers pings by itself. */
import type { Socket } from "node:net"
import { connect } from "node:net"
import type { Wire } from "./wires.ts"

// everything is read into one buffer: a load generator that allocates for every read measures its own collector
const shared = Buffer.allocUnsafeSlow(256 * 1024)
const none = Buffer.alloc(0)
const header = { length: 0, size: 0, opcode: 0 }
// what is no reply and is answered, a ping
const smallFrame = 125

export interface Hooks {
  /** So many replies were completed by one read. */
  readonly replies: (link: Link, count: number) => void
  /** A message of the size announced with `broadcastSize` has come. */
  readonly broadcast: () => void
  /** The server did what it must not. */
  readonly broken: (error: Error) => void
}

export class Link {
  readonly socket: Socket
  private readonly wire: Wire
  private readonly hooks: Hooks
  // an incomplete header
  private partial = none
  // bytes missing of the frame that has begun, and what it is
  private left = 0
  private kind: "reply" | "broadcast" | "small" = "reply"
  private opcode = 0
  private body: Array<Buffer> = []
  // until the first echo was compared, everything that comes is kept
  private early: Buffer | undefined = none
  private ready: (() => void) | undefined
  private greeted = false
  private closing = false
  broadcastSize = -1
  outstanding = 0
  sentAt = 0
  /** When each outstanding request of an open loop was due, oldest first. */
  due: Array<number> = []

  private constructor(port: number, wire: Wire, hooks: Hooks, ready: () => void) {
    this.wire = wire
    this.hooks = hooks
    this.ready = ready
    this.socket = connect({
      port,
      host: "127.0.0.1",
      noDelay: true,
      onread: {
        buffer: shared,
        callback: (length) => {
          try {
            this.read(length)
          } catch (error) {
            this.hooks.broken(error as Error)
            this.close()
          }
          return true
        }
      }
    })
    this.socket.once("connect", () => {
      if (wire.greeting !== undefined) this.socket.write(wire.greeting)
      else this.ask()
    })
    this.socket.on("error", (error) => this.lost(error))
    this.socket.on("end", () => this.lost(new Error("the server ended the connection")))
  }

  /** Calls back once the first echo has come and was right. */
  static open(port: number, wire: Wire, hooks: Hooks, ready: (link: Link) => void): Link {
    const link: Link = new Link(port, wire, hooks, () => ready(link))
    return link
  }

  close(): void {
    this.closing = true
    this.socket.destroy()
  }

  private lost(error: Error): void {
    if (!this.closing) this.hooks.broken(error)
    this.close()
  }

  private ask(): void {
    this.greeted = true
    this.early = none
    this.socket.write(this.wire.request)
  }

  private read(length: number): void {
    if (this.early !== undefined) return this.readEarly(Buffer.concat([this.early, shared.subarray(0, length)]))
    if (this.partial.length === 0) return this.scan(shared, length)
    const data = Buffer.concat([this.partial, shared.subarray(0, length)])
    this.partial = none
    this.scan(data, data.length)
  }

  private readEarly(early: Buffer): void {
    this.early = early
    if (!this.greeted) {
      const next = this.wire.greet(early.toString("latin1"))
      if (next === undefined) this.ask()
      else if (next.length > 0) {
        // what was read up to here has been understood; the status line stands for it
        this.early = Buffer.from("HTTP/1.1 101\r\n\r\n")
        this.socket.write(next)
      }
      return
    }
    const { reply } = this.wire
    if (early.length < reply.length) return
    if (!early.equals(reply)) {
      throw new Error(`the echo is not what was sent (${early.length} for ${reply.length} bytes)`)
    }
    this.early = undefined
    this.ready!()
    this.ready = undefined
  }

  private scan(data: Buffer, length: number): void {
    let at = 0
    let replies = 0
    while (at < length) {
      if (this.left === 0) {
        this.wire.header(data, at, length, header)
        if (header.length === 0) {
          this.partial = Buffer.from(data.subarray(at, length))
          break
        }
        at += header.length
        this.begin(header.size, header.opcode)
      }
      const taken = Math.min(this.left, length - at)
      if (this.kind === "small") this.body.push(Buffer.from(data.subarray(at, at + taken)))
      at += taken
      this.left -= taken
      if (this.left > 0) break
      if (this.kind === "reply") replies++
      else this.finish()
    }
    if (replies > 0) this.hooks.replies(this, replies)
  }

  private begin(size: number, opcode: number): void {
    this.left = size
    if (size === this.wire.replySize && opcode < 8) this.kind = "reply"
    else if (size === this.broadcastSize) this.kind = "broadcast"
    else if (size <= smallFrame) {
      this.kind = "small"
      this.opcode = opcode
      this.body = []
    } else throw new Error(`a frame of ${size} bytes is no echo of ${this.wire.replySize}`)
  }

  private finish(): void {
    if (this.kind === "broadcast") return this.hooks.broadcast()
    const body = Buffer.concat(this.body)
    const answer = this.wire.answer(this.opcode, body)
    if (answer === undefined) throw new Error(`a frame that nobody asked for: ${body.toString("hex")}`)
    this.socket.write(answer)
  }
}
