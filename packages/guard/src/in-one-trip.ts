/**
 * Asks for all that comes in one turn of the event loop together, and for what comes while that is on its way together two turns
 * after the answers are there, when most of those who got one have asked for the next: a trip costs much the same with one question
 * as with many, on both ends, so the more there are the less each costs. A turn is as short as there is little to do, and a question
 * never waits for a trip that takes longer than `patienceMs`.
 * @param most so many questions are not kept waiting for more.
 * @param ask gets them in the order they came, and answers each in its place. What it rejects with, each is rejected with.
 */
export function inOneTrip<Question, Answer>(
  { most, patienceMs }: { readonly most: number; readonly patienceMs: number },
  ask: (questions: readonly Question[]) => Promise<readonly Answer[]>,
): (question: Question) => Promise<Answer> {
  let waiting: Waiting<Question, Answer>[] = [];
  /** The last that was sent, while it is on its way and nobody has lost his patience with it. */
  let onItsWay: object | undefined;
  let impatience: NodeJS.Timeout | undefined;

  function send(): void {
    const sent = waiting;
    if (sent.length === 0) return; // there were so many that they have gone already
    waiting = [];
    onItsWay = sent;
    impatience = impatience?.refresh() ?? setTimeout(goOn, patienceMs).unref();
    const back = (): void => {
      const goOnOnce = (): void => {
        if (onItsWay === sent) goOn();
      };
      setImmediate(() => setImmediate(goOnOnce));
    };
    ask(sent.map(({ question }) => question)).then(
      (answers) => {
        back();
        for (let i = 0; i < sent.length; i++) sent[i]!.resolve(answers[i]!);
      },
      (error: unknown) => {
        back();
        for (const { reject } of sent) reject(error);
      },
    );
  }

  function goOn(): void {
    onItsWay = undefined;
    send();
  }

  return (question) =>
    new Promise((resolve, reject) => {
      waiting.push({ question, resolve, reject });
      if (waiting.length >= most) send();
      else if (waiting.length === 1 && !onItsWay) setImmediate(send);
    });
}

type Waiting<Question, Answer> = {
  readonly question: Question;
  readonly resolve: (answer: Answer) => void;
  readonly reject: (error: unknown) => void;
};
