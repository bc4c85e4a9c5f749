/** The MQTT client as a program: a thermometer and a display, on a mosquitto that restarts every 5 s. */
import { Console, Effect, Schedule, Stream } from "effect"
import * as Fs from "node:fs"
import { run } from "../support/run.ts"
import { backend, freePort, installed, started, temporary } from "../support/servers.ts"
import * as Mqtt from "./mqtt.ts"

/** The broker of `MQTT_URL`, or one of our own, which keeps the messages of clients that are away. */
const broker = backend(
  "MQTT_URL",
  Effect.gen(function*() {
    const path = yield* installed("mosquitto", "mosquitto", ". Or set MQTT_URL=tcp://HOST:1883")
    const [folder, port] = [yield* temporary, yield* freePort]
    const user = process.getuid?.() === 0 ? "user root\n" : ""
    Fs.writeFileSync(
      `${folder}/mosquitto.conf`,
      `${user}listener ${port} 127.0.0.1\nallow_anonymous true\npersistence true\npersistence_location ${folder}/\n`
    )
    return { url: `tcp://127.0.0.1:${port}`, server: started(path, ["-c", `${folder}/mosquitto.conf`], [port]) }
  })
)

const program = Effect.gen(function*() {
  const { restarting, url } = yield* broker
  yield* Console.log(`a broker on ${url}\nCtrl-C stops it.`)
  const clientId = `holdfast-${process.pid}`
  const display = yield* Mqtt.make({ url, clientId: `${clientId}-display`, subscriptions: [`${clientId}/+`] })
  const thermometer = yield* Mqtt.make({ url, clientId: `${clientId}-thermometer` })

  const published = new Set<number>()
  const shown = new Set<number>()
  yield* Effect.forkScoped(Stream.runForEach(display.messages, ({ payload, topic }) =>
    Effect.suspend(() => {
      const text = new TextDecoder().decode(payload)
      shown.add(Number(text.split(" ")[0]))
      const missing = Array.from(published).filter((one) => !shown.has(one)).length
      return Console.log(`${topic}: reading ${text}; ${published.size} acknowledged, ${missing} not shown yet`)
    })))
  let next = 1
  const measure = Effect.suspend(() => {
    const reading = next++
    const text = `${reading} ${(20 + Math.sin(reading / 5)).toFixed(1)} °C`
    return Effect.tap(thermometer.publish(`${clientId}/kitchen`, text), () => Effect.sync(() => published.add(reading)))
  })
  yield* Effect.raceFirst(Effect.repeat(measure, Schedule.spaced("500 millis")), restarting)
})

run(Effect.scoped(program))
