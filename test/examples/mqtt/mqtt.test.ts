/** The MQTT client against a real mosquitto, which restarts meanwhile, and against a tiny fake. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Layer, Option, Scope, Stream } from "effect"
import { SocketServer } from "effect/socket"
import { Connection, Server } from "holdfast"
import { Mqtt as Codec } from "holdfast/codecs"
import { Listener } from "holdfast/node"
import * as Fs from "node:fs"
import { until } from "../../integration/support/kit.ts"
import { freePort, installed, started, temporary } from "../support/servers.ts"
import * as Mqtt from "./mqtt.ts"

const mosquitto = Option.getOrUndefined(Effect.runSync(Effect.option(installed("mosquitto", "mosquitto"))))

describe.skipIf(mosquitto === undefined)(
  "the MQTT client, against mosquitto (skipped where it is not installed)",
  () => {
    it.live("loses no message that was acknowledged, over a restart of the broker", () =>
      Effect.gen(function*() {
        const [folder, port] = [yield* temporary, yield* freePort]
        const user = process.getuid?.() === 0 ? "user root\n" : ""
        Fs.writeFileSync(
          `${folder}/mosquitto.conf`,
          `${user}listener ${port} 127.0.0.1\nallow_anonymous true\npersistence true\npersistence_location ${folder}/\n`
        )
        const broker = started(mosquitto!, ["-c", `${folder}/mosquitto.conf`], [port])
        const first = yield* Scope.make()
        yield* Scope.provide(broker, first)
        const url = `tcp://127.0.0.1:${port}`
        const reader = yield* Mqtt.make({ url, clientId: "reader", subscriptions: ["rooms/+"] })
        const writer = yield* Mqtt.make({ url, clientId: "writer" })
        const heard = new Array<string>()
        yield* Effect.forkScoped(Stream.runForEach(reader.messages, ({ payload }) =>
          Effect.sync(() =>
            void heard.push(new TextDecoder().decode(payload))
          )))
        yield* reader.client.connection
        const publish = (text: string) =>
          writer.publish("rooms/1", text)
        yield* Effect.forEach(["1", "2", "3"], publish, { concurrency: "unbounded" })
        yield* until("three are heard", () => new Set(heard).size === 3)
        yield* Scope.close(first, Exit.void)
        yield* until("it is gone", () => Effect.runSync(writer.client.state)._tag !== "Connected")
        const meanwhile = yield* Effect.forkChild(Effect.forEach(["4", "5"], publish, { concurrency: "unbounded" }))
        yield* broker
        yield* Effect.all([reader.client.retryNow, writer.client.retryNow])
        yield* until("both are published", () => meanwhile.pollUnsafe() !== undefined)
        yield* until("all are heard", () => new Set(heard).size === 5)
      }))
  }
)

describe("the MQTT client, against a fake", () => {
  it.live("says why the broker does not let it in, and gives up", () =>
    Effect.gen(function*() {
      const listener = yield* Listener.make("tcp://127.0.0.1:0")
      yield* Layer.build(
        Server.layer({
          open: Connection.make({ codec: Codec.make() }),
          handle: (connection) =>
            Effect.andThen(
              connection.receive,
              Effect.andThen(connection.send({ _tag: "Connack", sessionPresent: false, code: 5 }), connection.receive)
            )
        }).pipe(Layer.provide(Layer.succeed(SocketServer.SocketServer, listener)))
      )
      const { client, publish } = yield* Mqtt.make({ url: listener.url, clientId: "stranger" })
      const error = yield* Effect.flip(client.closed)
      assert.include(error.message, "the broker does not let stranger in: code 5")
      assert.strictEqual((yield* Effect.flip(publish("a", "b"))).reason._tag, "HandshakeFailed")
    }))
})
