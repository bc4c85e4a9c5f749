/** The agent of the HTTP client: undici's, whose connections and requests are followed. */
import Undici from "@effect/platform-node/Undici"
import { Exchange, KeptConnection, type Shared } from "./exchange.ts"

type Connect = ReturnType<typeof Undici.buildConnector>

/** How to send, beside what an agent is told. */
export interface Settings extends Shared {
  readonly dial: Connect
  /** In bytes. */
  readonly maxHeader: number
}

/** A client of undici has one connection at a time, and sends one request at a time on it. */
class KeptClient extends Undici.Client {
  private connection: KeptConnection | undefined
  private readonly shared: Settings

  constructor(origin: string | URL, options: Undici.Client.Options, settings: Settings) {
    super(origin, {
      ...options,
      connect: (to, done) => {
        this.connection = undefined
        settings.dial(to, (...result) => {
          const [, conn] = result
          if (conn) this.connection = new KeptConnection(conn, settings.maxHeader)
          done(...result)
        })
      }
    })
    this.shared = settings
  }

  private readonly current = (): KeptConnection | undefined => this.connection

  override dispatch(options: Undici.Dispatcher.DispatchOptions, handler: Undici.Dispatcher.DispatchHandler): boolean {
    return super.dispatch(options, new Exchange(this.current, this.shared, handler))
  }
}

export const make = (options: Undici.Agent.Options, settings: Settings): Undici.Agent => {
  const factory = (origin: string | URL, options: object): KeptClient => new KeptClient(origin, options, settings)
  return new Undici.Agent({
    ...options,
    factory: (origin, options) =>
      (options as Undici.Pool.Options).connections === 1
        ? factory(origin, options)
        : new Undici.Pool(origin, { ...options, factory })
  })
}
