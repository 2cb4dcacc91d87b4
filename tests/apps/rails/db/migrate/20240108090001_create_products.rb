class CreateProducts < ActiveRecord::Migration[6.1]
  def change
    create_table :products do |t|
      t.string :name, null: false, index: { unique: true }
      t.decimal :price, precision: 8, scale: 2, null: false
      t.string :photo_digest

      t.timestamps
    end
  end
end
