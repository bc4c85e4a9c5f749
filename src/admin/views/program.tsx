/** Servers, pools and dispatchers, as they count themselves. */
import type { Dispatcher, Pool } from "../../node/internal/admin/schemas.ts"
import { bytes, count, span } from "../../node/internal/admin/shown/format.ts"
import { Empty, Fact, Problem } from "../parts/bits.tsx"
import { useModel, usePoll } from "../parts/context.ts"

const times: ReadonlyArray<string> = ["waitTime", "dialTime"]

const words = (name: string): string => name.replace(/[A-Z]/g, (capital) => ` ${capital.toLowerCase()}`)

const Counts = ({ of }: { readonly of: Readonly<Record<string, unknown>> }) => (
  <dl class="facts">
    {Object.entries(of).map(([name, value]) =>
      typeof value === "number"
        ? <Fact key={name} name={words(name)}>{times.includes(name) ? span(value) : count(value)}</Fact>
        : typeof value === "object" && value !== null
        ? Object.entries(value).map(([part, value]) => (
          <Fact key={`${name} ${part}`} name={`${words(name)}: ${part}`}>{count(Number(value))}</Fact>
        ))
        : undefined
    )}
  </dl>
)

interface Named {
  readonly name: string
}

const Group = ({ all, error, none, title }: {
  readonly title: string
  readonly all: ReadonlyArray<Named> | undefined
  readonly error?: unknown
  readonly none: string
}) => (
  <section>
    <h3>{title}</h3>
    <Problem error={error} />
    {all?.length === 0 ? <Empty>{none}</Empty> : undefined}
    {all?.map(({ name, ...counts }) => (
      <section key={name} class="card">
        <h4>{name}{"phase" in counts ? <span class="state">{String(counts.phase)}</span> : undefined}</h4>
        <Counts of={counts} />
      </section>
    ))}
  </section>
)

export const Program = () => {
  const { figures, servers } = useModel()
  const pools = usePoll<ReadonlyArray<typeof Pool.Type>>("/api/pools", 1000)
  const dispatchers = usePoll<ReadonlyArray<typeof Dispatcher.Type>>("/api/dispatchers", 1000)
  return (
    <section class="view" aria-labelledby="program-title">
      <h2 id="program-title" tabIndex={-1}>Program</h2>
      {figures === undefined ? undefined : (
        <dl class="facts">
          <Fact name="Up for">{span(figures.uptime)}</Fact>
          <Fact name="Memory">{bytes(figures.memory.rss)} resident, {bytes(figures.memory.heapUsed)} heap</Fact>
          <Fact name="Queued in">{count(figures.inbox.messages)} messages, {bytes(figures.inbox.bytes)}</Fact>
          <Fact name="Queued out">{count(figures.outbox.messages)} messages, {bytes(figures.outbox.bytes)}</Fact>
        </dl>
      )}
      <Group title="Servers" all={servers} none="This program shows none: give Admin some as servers." />
      <Group
        title="Pools"
        all={pools.data}
        error={pools.error}
        none="This program shows none: give Admin some as pools."
      />
      <Group
        title="Dispatchers"
        all={dispatchers.data}
        error={dispatchers.error}
        none="This program shows none: give Admin some as dispatchers."
      />
    </section>
  )
}
