export type BesideLine = {
  name: string;
  value: number;
  min?: number;
  max?: number;
  unit: string;
  bar?: number;
  holds?: boolean;
  note?: string;
};
