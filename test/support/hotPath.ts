/**
 * What one echoed message costs, in things that can be counted: bytes allocated, and tasks given to the scheduler.
 *
 * A program of its own, so that nobody else allocates: `node --expose-gc --min-semi-space-size=64 hotPath.ts`. Young space
 * holds all that is allocated between two looks, so the heap grows by just that. Fibers run on a scheduler whose queue
 * this program empties itself; no time passes and no timer fires.
 */
import * as Effect from "effect/Effect"
import * as Scheduler from "effect/Scheduler"
import * as Scope from "effect/Scope"
import * as Socket from "effect/socket/Socket"
import * as Codec from "../../src/Codec.ts"
import * as Connection from "../../src/Connection.ts"
import * as Heartbeat from "../../src/Heartbeat.ts"

export interface Cost {
  /** Allocated for one message, all of it: reading, the handler, writing. */
  readonly bytes: number
  /** Tasks for one batch of 32 messages that one read brings. */
  readonly tasks: number
}

const messages = 32
const batches = 1000
const warmUp = 2000
// between two looks at the heap
const slice = 100

class CountingScheduler extends Scheduler.MixedScheduler {
  private queue: Array<() => void> = []
  tasks = 0

  override makeDispatcher(): never {
    const scheduleTask = (task: () => void): void => {
      this.tasks++
      this.queue.push(task)
    }
    return { scheduleTask, flush: () => this.run() } as never
  }

  run(): void {
    while (this.queue.length > 0) {
      const tasks = this.queue
      this.queue = []
      for (const task of tasks) task()
    }
  }
}

const chunk = Buffer.concat(Array.from({ length: messages }, () => {
  const frame = Buffer.alloc(4 + 64, "x")
  frame.writeUInt32BE(64, 0)
  return frame
}))

type Handler = (connection: Connection.Connection<Uint8Array>) => Effect.Effect<never, unknown>

/** `direct`: on a transport as TCP is, which reads and writes without a fiber. */
const cost = (handle: Handler, direct: boolean): Cost => {
  const scheduler = new CountingScheduler()
  let written = 0
  let resume: (effect: Effect.Effect<[Uint8Array]>) => void = () => {}
  let take: (chunk: Uint8Array) => boolean = () => false
  const plain = Socket.make({
    reader: Effect.succeed({
      pull: Effect.callback<[Uint8Array]>((waiting) => {
        resume = waiting
      }),
      upgrade: Socket.SocketUpgradeError.unsupported
    }),
    writer: Effect.succeed({
      write: () => Effect.void,
      writeAll: (chunks) =>
        Effect.sync(() => {
          for (const chunk of chunks) written += chunk.length
        })
    })
  })
  const socket = !direct ? plain : Connection.describe(plain, {
    messages: false,
    writeNow: (chunks) => {
      for (const chunk of chunks) written += chunk.length
      return true
    },
    onRead: (taker) => take = taker
  })
  const isPing = (message: Uint8Array): boolean => message.length === 8
  const heartbeat = Heartbeat.make<Uint8Array, Uint8Array>({
    ping: () => new Uint8Array(8),
    read: (message) => (isPing(message) ? { _tag: "Pong", token: undefined } : undefined)
  })
  const program = Effect.flatMap(Connection.make(socket, { codec: Codec.lengthPrefix(), heartbeat }), handle)
  const scope = Scope.makeUnsafe()
  Effect.runForkWith(Effect.runSync(Effect.context<never>()))(
    Effect.provideService(Scope.provide(program, scope), Scheduler.Scheduler, scheduler)
  )
  scheduler.run()

  const echo = (): void => {
    const before = written
    if (!take(chunk)) resume(Effect.succeed([chunk]))
    scheduler.run()
    if (written - before !== chunk.length) throw new Error(`${written - before} of ${chunk.length} bytes came back`)
  }
  for (let i = 0; i < warmUp; i++) echo()
  const tasks = scheduler.tasks
  let bytes = 0
  for (let done = 0; done < batches; done += slice) {
    globalThis.gc!()
    const before = process.memoryUsage().heapUsed
    for (let i = 0; i < slice; i++) echo()
    bytes += process.memoryUsage().heapUsed - before
  }
  return { bytes: bytes / (batches * messages), tasks: (scheduler.tasks - tasks) / batches }
}

const message: Handler = (connection) =>
  Effect.gen(function*() {
    while (true) yield* connection.send(yield* connection.receive)
  })
const batch: Handler = (connection) =>
  Effect.gen(function*() {
    while (true) yield* connection.sendAll(yield* connection.receiveAll)
  })

const costs = {
  perMessage: cost(message, true),
  perBatch: cost(batch, true),
  perMessageInFibers: cost(message, false),
  perBatchInFibers: cost(batch, false)
}
process.stdout.write(JSON.stringify(costs), () => process.exit(0))
