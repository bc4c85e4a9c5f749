/** The memory that connections may hold together: each budget counts once, however many servers share it. */
import type { Collector } from "./collector.ts"

/** A budget, as far as its figures need it. */
export interface Budgeted {
  readonly limit: number
  readonly recount: () => number
}

export class Budgets {
  /** How many servers have each. */
  private readonly users = new Map<Budgeted, number>()

  constructor(collector: Collector) {
    collector.watch((add) => {
      for (const budget of this.users.keys()) {
        add("memory_held_bytes", budget.recount())
        add("memory_limit_bytes", budget.limit)
      }
    })
  }

  /** What is given back says that the server is gone. */
  use(budget: Budgeted): () => void {
    this.users.set(budget, (this.users.get(budget) ?? 0) + 1)
    return () => {
      const left = this.users.get(budget)! - 1
      if (left === 0) this.users.delete(budget)
      else this.users.set(budget, left)
    }
  }
}
