/** Orders from the bench to a process it started, and their answers, over Node's own channel. */
import type { ChildProcess } from "node:child_process"

interface Order {
  readonly id: number
  readonly name: string
  readonly args: unknown
}

interface Answer {
  readonly id: number
  readonly result?: unknown
  readonly error?: string
}

type Handler = (args: never) => unknown

const handlers = new Map<string, Handler>()

/** Answers orders of this name, in the process that was started. */
export const onCommand = <A>(name: string, handler: (args: A) => unknown): void => {
  if (handlers.size === 0) listen()
  handlers.set(name, handler as Handler)
}

const listen = (): void => {
  process.on("message", (order: Order) => {
    const answer = (rest: Omit<Answer, "id">) => process.send?.({ id: order.id, ...rest })
    // an order must not be lost in a rejected promise
    const run = async () => {
      const handler = handlers.get(order.name)
      if (handler === undefined) throw new Error(`no command ${order.name}`)
      return handler(order.args as never)
    }
    run().then((result) => answer({ result }), (error: Error) => answer({ error: error.stack ?? String(error) }))
  })
  // whoever started this process is gone, or is done with it
  process.on("disconnect", () => process.exit(0))
}

export type Call = <A>(name: string, args?: unknown) => Promise<A>

/** Gives orders to a child. Every order fails once the child is gone. */
export const caller = (child: ChildProcess, title: string): Call => {
  let nextId = 0
  const waiting = new Map<number, { resolve: (value: never) => void; reject: (error: Error) => void }>()
  child.on("message", (answer: Answer) => {
    const waiter = waiting.get(answer.id)
    waiting.delete(answer.id)
    if (answer.error === undefined) waiter?.resolve(answer.result as never)
    else waiter?.reject(new Error(`${title}: ${answer.error}`))
  })
  child.on("exit", (code, signal) => {
    for (const { reject } of waiting.values()) reject(new Error(`${title} is gone (${signal ?? code})`))
    waiting.clear()
  })
  return (name, args) =>
    new Promise((resolve, reject) => {
      const id = nextId++
      waiting.set(id, { resolve, reject })
      child.send({ id, name, args } satisfies Order, (error) => {
        if (error !== null && error !== undefined && waiting.delete(id)) reject(error)
      })
    })
}
