/** A load process: clients of a fleet's nodes. Each logs in with its key, counts what comes, and comes back when it is cut. */
import { connect, type Socket } from "node:net"
import { onCommand } from "../../support/commands.ts"
import { percentiles } from "../../support/figures.ts"

interface Client {
  readonly key: string
  socket: Socket | undefined
  isIn: boolean
  delay: number
}

/** What became of clients whose node died; seconds from the moment at which the first was cut. */
export interface Return {
  readonly median: number
  readonly last: number
  /** How often they dialled in all. */
  readonly dials: number
}

// so many are dialled at once
const dialling = 128
// milliseconds; each delay is at random from 0 to that, and twice as long after each failure
const [firstDelay, longestDelay] = [1000, 5000]
const patience = 60_000

const clients: Array<Client> = []
let bytes = 0
let onBytes: (() => void) | undefined
let wayBack: { readonly ports: ReadonlyArray<number>; readonly entered: (client: Client) => void } | undefined
let cutAt: number | undefined
let dials = 0
let isBroken = false

const login = (key: string): Buffer => {
  const body = Buffer.from(key)
  const length = Buffer.alloc(4)
  length.writeUInt32BE(body.length)
  return Buffer.concat([length, body])
}

const dial = (client: Client, port: number, entered: (client: Client) => void): void => {
  dials++
  client.isIn = false
  const socket = client.socket = connect({ port, host: "127.0.0.1", noDelay: true })
  socket.once("connect", () => socket.write(login(client.key)))
  socket.on("data", (data) => {
    bytes += data.length
    onBytes?.()
    if (client.isIn) return
    clearTimeout(late)
    client.isIn = true
    entered(client)
  })
  // a kernel whose queue was full has told nothing
  const late = setTimeout(() => socket.destroy(), patience)
  socket.on("error", () => {})
  socket.once("close", () => {
    clearTimeout(late)
    client.isIn = false
    again(client)
  })
}

const again = (client: Client): void => {
  if (wayBack === undefined) {
    isBroken = true
    return
  }
  cutAt ??= performance.now()
  const { entered, ports } = wayBack
  const delay = Math.random() * client.delay
  client.delay = Math.min(longestDelay, 2 * client.delay)
  setTimeout(() => dial(client, ports[Math.floor(Math.random() * ports.length)]!, entered), delay)
}

/** Spreads clients over nodes, and resolves when all are logged in. */
onCommand(
  "enter",
  ({ count, ports }: { readonly count: number; readonly ports: ReadonlyArray<number> }) =>
    new Promise<void>((resolve) => {
      const from = clients.length
      let entered = 0
      const next = (): void => {
        const at = clients.length - from
        if (at === count) return
        const client = { key: `user${clients.length}`, socket: undefined, isIn: false, delay: firstDelay }
        clients.push(client)
        dial(client, ports[at % ports.length]!, () => {
          if (++entered === count) resolve()
          else next()
        })
      }
      for (let i = 0; i < dialling; i++) next()
    })
)

/** Resolves when so many more bytes have come. */
onCommand("expect", (order: { readonly bytes: number }) =>
  new Promise<void>((resolve) => {
    const goal = bytes + order.bytes
    onBytes = () => {
      if (bytes < goal) return
      onBytes = undefined
      resolve()
    }
  }))

let returned: Promise<Return> | undefined

/** From now on clients that are cut go to these ports. */
onCommand("prepare return", ({ ports }: { readonly ports: ReadonlyArray<number> }) => {
  const times = new Float64Array(clients.length)
  let entered = 0
  dials = 0
  returned = new Promise((resolve) => {
    wayBack = {
      ports,
      entered: (client) => {
        client.delay = firstDelay
        times[entered++] = (performance.now() - cutAt!) / 1000
        if (entered === clients.length) resolve({ last: times[entered - 1]!, median: percentiles(times).p50, dials })
      }
    }
  })
})

/** Resolves when each is logged in again. */
onCommand("return", () => returned)

onCommand("size", () => clients.length)

/** How many are logged in; fails where one was cut that should not be. */
onCommand("in", () => {
  if (isBroken && wayBack === undefined) throw new Error("a node has ended a connection")
  return clients.filter(({ isIn }) => isIn).length
})
