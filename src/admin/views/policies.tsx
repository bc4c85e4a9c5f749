/** The policies that new connections get. */
import type { NamedPolicy } from "../../node/internal/admin/schemas.ts"
import { Empty, Fact, Problem } from "../parts/bits.tsx"
import { usePoll } from "../parts/context.ts"

const textOf = (value: unknown): string =>
  typeof value === "string" || typeof value === "number" || typeof value === "boolean"
    ? String(value)
    : JSON.stringify(value) ?? "–"

export const Values = ({ values }: { readonly values: Readonly<Record<string, unknown>> }) => (
  <dl class="facts">
    {Object.entries(values).map(([name, value]) => <Fact key={name} name={name}>{textOf(value)}</Fact>)}
  </dl>
)

export const Policies = () => {
  const { data, error } = usePoll<ReadonlyArray<typeof NamedPolicy.Type>>("/api/policies", 5000)
  return (
    <section class="view" aria-labelledby="policies-title">
      <h2 id="policies-title" tabIndex={-1}>Policies</h2>
      <Problem error={error} />
      {data?.length === 0 ? <Empty>This program shows none: give Admin some as policies.</Empty> : undefined}
      {data?.map(({ name, policy }) => (
        <section key={name}>
          <h3>{name}</h3>
          <Values values={policy} />
        </section>
      ))}
    </section>
  )
}
