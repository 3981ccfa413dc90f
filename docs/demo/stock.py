"""A small stock book: what lies in which warehouse, and what it is worth."""

from dataclasses import dataclass, field


@dataclass
class Item:
    name: str
    price: float
    count: int = 0

    def value(self) -> float:
        return self.price * self.┃


@dataclass
class Warehouse:
    city: str
    items: dict[str, Item] = field(default_factory=dict)

    def add(self, item: Item) -> None:
        if item.name in self.items:
            raise ValueError(f"{item.name} is in {self.city} already")
        self.items[item.name] = ┃

    def remove(self, name: str) -> Item:
        if name not in self.items:
            raise ┃
        return self.items.pop(name)

    def total(self) -> float:
        result = 0.0
        for item in self.items.values():
            result += ┃
        return result


def cheapest(warehouse: Warehouse) -> Item:
    return min(warehouse.items.values(), key=lambda item: ┃)
