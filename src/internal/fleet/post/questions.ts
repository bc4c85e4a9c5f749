/** Broadcasts that other nodes do for this one, until they say how it went. */
import type { Deadlines } from "./deadlines.ts"
import type * as Wire from "./wire.ts"

/** What came of a broadcast on one node: what its connections did, or why that is not known. */
export type NodeCounts = Wire.Counts | "unknown" | "cut"

interface Question {
  readonly node: string
  readonly settle: (counts: NodeCounts) => void
}

export class Questions {
  private readonly open = new Map<number, Question>()
  private readonly deadlines: Deadlines

  constructor(deadlines: Deadlines) {
    this.deadlines = deadlines
  }

  /** Waits for a node; its answer is told once, at the latest at the deadline. */
  add(id: number, node: string, settle: (counts: NodeCounts) => void): void {
    this.open.set(id, { node, settle })
    this.deadlines.add(id, () => this.answer(id, node, "unknown"))
  }

  answer(id: number, from: string, counts: NodeCounts): void {
    const question = this.open.get(id)
    if (question?.node !== from) return
    this.open.delete(id)
    this.deadlines.remove(id)
    question.settle(counts)
  }

  /** A node is gone, or all of them are out of reach. */
  lose(node?: string): void {
    for (const [id, question] of Array.from(this.open)) {
      if (node === undefined || question.node === node) this.answer(id, question.node, "unknown")
    }
  }
}
